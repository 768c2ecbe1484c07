package wireguard

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"
)

func drawKey(t *rapid.T, name string, choices int) Key {
	return Key{0: byte(rapid.IntRange(1, choices).Draw(t, name)), 1: name[0]}
}

// drawConfig is a config out of few keys and addresses, so that two of them have much in common.
func drawConfig(t *rapid.T) Config {
	c := Config{Key: drawKey(t, "private", 2), Port: uint16(rapid.IntRange(1, 2).Draw(t, "port"))}
	addrs := rapid.Permutation([]byte{1, 2, 3}).Draw(t, "addresses")
	for i := range rapid.IntRange(0, 3).Draw(t, "peers") {
		c.Peers = append(c.Peers, Peer{Key: Key{0: byte(i + 1)}, Preshared: drawKey(t, "secret", 2), Addr: netip.AddrFrom4([4]byte{198, 18, 0, addrs[i]}),
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(1, 2).Draw(t, "endpoint"))}), 4790)})
	}
	return c
}

// change is what an interface does with a request.
func change(d *wgtypes.Device, c wgtypes.Config) {
	if c.PrivateKey != nil {
		d.PrivateKey = *c.PrivateKey
	}
	if c.ListenPort != nil {
		d.ListenPort = *c.ListenPort
	}
	for _, p := range c.Peers {
		rest := d.Peers[:0:0]
		for _, h := range d.Peers {
			if h.PublicKey != p.PublicKey {
				rest = append(rest, h)
			}
		}
		d.Peers = rest
		if !p.Remove {
			d.Peers = append(d.Peers, wgtypes.Peer{PublicKey: p.PublicKey, PresharedKey: *p.PresharedKey, Endpoint: p.Endpoint,
				PersistentKeepaliveInterval: *p.PersistentKeepaliveInterval, AllowedIPs: p.AllowedIPs})
		}
	}
}

// From whatever an interface has, one request leads to what is wanted, and touches nothing that is there already.
func TestADifferenceLeadsToWhatIsWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, was, want := &wgtypes.Device{}, drawConfig(t), drawConfig(t)
		change(have, difference(have, was))
		if d := difference(have, was); !empty(d) {
			t.Fatalf("twice is not once: %+v", d)
		}
		for _, p := range difference(have, want).Peers {
			for _, q := range want.Peers {
				for _, r := range was.Peers {
					if p.PublicKey == q.Key && q == r {
						t.Fatalf("a peer that stays is touched: %+v", p)
					}
				}
			}
		}
		change(have, difference(have, want))
		if d := difference(have, want); !empty(d) {
			t.Fatalf("still to do: %+v", d)
		}
	})
}

// What is asked of a process is what it then tells.
func TestTheTextsOfAProcessAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, d := drawConfig(t), &wgtypes.Device{}
		for line := range strings.Lines(setRequest(difference(d, want))) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if err := parseLine(d, key, value); err != nil {
				t.Fatal(err)
			}
		}
		if left := difference(d, want); !empty(left) {
			t.Fatalf("lost on the way: %+v", left)
		}
	})
}

// answer serves one request on a socket with a text.
func answer(t *testing.T, text string) socket {
	t.Helper()
	path := t.TempDir() + "/sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		for in := bufio.NewScanner(conn); in.Scan() && in.Text() != ""; { // to the end of the request
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}()
	return socket{path}
}

func TestARefusalOfAProcessIsAnError(t *testing.T) {
	for text, want := range map[string]string{"errno=0\n\n": "", "errno=-98\n\n": "errno -98", "": errNoAnswer.Error(), "listen_port=x\nerrno=0\n\n": "listen_port"} {
		_, err := answer(t, text).device()
		if fmt.Sprint(err) == "<nil>" && want == "" {
			continue
		}
		if err == nil || want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
