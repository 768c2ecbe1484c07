package shoal

import (
	"fmt"
	"testing"
)

func TestPublishRules(t *testing.T) {
	web := Port{Protocol: TCP, Target: 80, Published: 8080, Mode: PublishIngress}
	names := Port{Protocol: UDP, Target: 53, Published: 53, Mode: PublishIngress}
	host := Port{Protocol: TCP, Target: 80, Published: 90, Mode: PublishHost}
	rules, err := PublishRules(map[string]string{
		"shoal.publish.8080.host-ip": "192.0.2.1, 2001:db8::1", "shoal.publish.8080.allow": "10.1.2.3/8,2001:db8::/32,192.0.2.9", "shoal.publish.8080.snat": "true",
		"shoal.publish.53/udp.allow": "192.0.2.0/24", "shoal.publish.90.host-ip": "127.0.0.1", "other": "label",
	}, []Port{web, names, host})
	if err != nil {
		t.Fatal(err)
	}
	want := map[Port]string{
		web:   "{[192.0.2.1 2001:db8::1] [10.0.0.0/8 2001:db8::/32 192.0.2.9/32] true}",
		names: "{[] [192.0.2.0/24] false}", host: "{[127.0.0.1] [] false}",
	}
	for port, text := range want {
		if got := fmt.Sprint(rules[port]); got != text {
			t.Errorf("port %d: %s, want %s", port.Published, got, text)
		}
	}
	for label, bad := range map[string][2]string{
		"shoal.publish.8081.allow":    {"10.0.0.0/8", "the service does not publish port 8081/tcp"},
		"shoal.publish.8080/udp.snat": {"true", "the service does not publish port 8080/udp"},
		"shoal.publish.http.allow":    {"10.0.0.0/8", `"http" is no published port`},
		"shoal.publish.0.allow":       {"10.0.0.0/8", `"0" is no published port`},
		"shoal.publish.":              {"", `"" is no published port`},
		"shoal.publish.8080":          {"x", `"" is none of host-ip, allow and snat`},
		"shoal.publish.8080.deny":     {"x", `"deny" is none of host-ip, allow and snat`},
		"shoal.publish.8080.allow":    {"10.0.0.0/8,lan", `"lan" is neither an address nor a prefix`},
		"shoal.publish.8080.host-ip":  {"0.0.0.0", `"0.0.0.0" is no address that a port can be published on`},
		"shoal.publish.8080.snat":     {"maybe", `"maybe" is neither true nor false`},
		"shoal.publish.90.allow":      {"10.0.0.0/8", "a port in host mode takes host-ip only"},
		"shoal.publish.90.host-ip":    {"::1", `"::1" is no address that a port can be published on`},
	} {
		_, err := PublishRules(map[string]string{label: bad[0]}, []Port{web, names, host})
		if want := "invalid label " + label + ": " + bad[1]; err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
