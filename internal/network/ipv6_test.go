package network

import (
	"errors"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

func TestMeshAndVIPByIPv6(t *testing.T) {
	c := newCluster(t, 3)
	c.service("web", "10.0.1.2", 8080)
	c.service("other", "10.0.1.3", 8081)
	c.push(t)
	web0, web1 := c.task(t, "web", 0, 1), c.task(t, "web", 1, 2)
	other := c.task(t, "other", 2, 1)
	c.push(t)
	for _, probe := range []struct {
		name  string
		enter func(func() error) error
		proto string
		addr  string
		saw   string // "" for any
	}{
		{"task", other, "tcp6", "[fd00:1::10]:80", ""},
		{"VIP", other, "tcp6", "[fd00:1::100:2]:80", ""},
		{"VIP by UDP", other, "udp6", "[fd00:1::100:2]:80", ""},
		{"VIP of itself", web1, "tcp6", "[fd00:1::100:2]:80", ""},
		{"client to node 0", c.client.Do, "tcp6", "[fd77::11]:8080", clientAddr6.String()},
		{"client to node 1", c.client.Do, "tcp6", "[fd77::12]:8080", clientAddr6.String()},
		{"client to node without a task", c.client.Do, "tcp6", "[fd77::13]:8080", clientAddr6.String()},
		{"client by UDP to node 0", c.client.Do, "udp6", "[fd77::11]:8080", clientAddr6.String()},
		{"client by UDP to node without a task", c.client.Do, "udp6", "[fd77::13]:8080", clientAddr6.String()},
		{"own address", c.nodes[0].ns.Do, "tcp6", "[fd77::11]:8080", ""},
		{"own address of a node without a task", c.nodes[2].ns.Do, "tcp6", "[fd77::13]:8080", ""},
		{"hairpin", web0, "tcp6", "[fd77::11]:8080", ""},
		{"task to another node", other, "tcp6", "[fd77::11]:8080", ""},
		{"another node", c.nodes[1].ns.Do, "tcp6", "[fd77::11]:8080", ""},
	} {
		count := map[string]int{}
		for range 20 {
			who, saw, err := ask(probe.enter, probe.proto, probe.addr)
			if err != nil {
				t.Errorf("%s: %v", probe.name, err)
				break
			}
			if probe.saw != "" && saw != probe.saw {
				t.Errorf("%s: task saw %s, want %s", probe.name, saw, probe.saw)
			}
			count[who]++
		}
		slack := 0
		if probe.proto == "udp6" {
			slack = 2 // a source port that is used again is still bound to its first backend
		}
		if probe.name != "task" && (count["webtask1"]+count["webtask2"] != 20 || count["webtask1"] < 10-slack || count["webtask2"] < 10-slack) {
			t.Errorf("%s: spread %v, want 10 each", probe.name, count)
		}
	}
	began := time.Now()
	if _, _, err := ask(c.nodes[0].ns.Do, "tcp6", "[::1]:8080"); !errors.Is(err, unix.ECONNREFUSED) || time.Since(began) > time.Second {
		t.Errorf("[::1]: %v after %v, want a refusal", err, time.Since(began))
	}
	err := web0(func() error {
		reply, err := dns.Exchange(new(dns.Msg).SetQuestion("tasks.web.", dns.TypeAAAA), "127.0.0.11:53")
		if err == nil && len(reply.Answer) != 2 {
			t.Errorf("tasks.web has %v", reply.Answer)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
