package dns

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// askLimit is how long a resolver on this machine may take.
const askLimit = time.Second

// Ask queries the resolver at addr ("IP:port") for an IPv4 address of a name, by UDP. It fails if there is no answer within a second
// or the answer is an error; the address itself is of no interest.
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
