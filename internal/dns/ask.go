package dns

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// askLimit is how long a resolver on this machine may take.
const askLimit = time.Second

// Ask wants an address of a name from the resolver at addr, by UDP.
func Ask(ctx context.Context, addr, name string) error {
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	client := &dns.Client{Timeout: askLimit}
	reply, _, err := client.ExchangeContext(ctx, query, addr)
	switch {
	case err != nil:
		return err
	case reply.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("%s for %s", dns.RcodeToString[reply.Rcode], name)
	}
	return nil
}
