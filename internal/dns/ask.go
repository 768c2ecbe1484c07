package dns

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// askTimeout is how long a resolver on this machine may take to answer.
const askTimeout = time.Second

// Ask asks the resolver at addr ("IP:port"), by UDP, for the IPv4 addresses of a name. The error says that it did not answer within a second, or
// with which code it refused; an answer without addresses is no error.
func Ask(ctx context.Context, addr, name string) error {
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	client := &dns.Client{Timeout: askTimeout}
	reply, _, err := client.ExchangeContext(ctx, query, addr)
	switch {
	case err != nil:
		return err
	case reply.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("%s for %s", dns.RcodeToString[reply.Rcode], name)
	}
	return nil
}
