package wireguard

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Process is the interface of the process that serves the socket.
func Process(path string) Device { return Device{socket{path}} }

// socket speaks the text protocol of user-space WireGuard (https://www.wireguard.com/xplatform/).
type socket struct{ path string }

// answerLimit bounds the wait for a process, which has nothing to wait for itself.
const answerLimit = 2 * time.Second

// ask sends a request and gives the lines of the answer.
func (s socket) ask(request string) (lines [][2]string, err error) {
	conn, err := net.DialTimeout("unix", s.path, answerLimit)
	if err != nil {
		return nil, fmt.Errorf("reach WireGuard process: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, request+"\n"); err != nil {
		return nil, fmt.Errorf("ask WireGuard process: %w", err)
	}
	for in := bufio.NewScanner(conn); in.Scan(); {
		key, value, _ := strings.Cut(in.Text(), "=")
		if key == "errno" && value != "0" {
			return nil, fmt.Errorf("WireGuard process refuses: errno %s", value)
		}
		if key == "errno" {
			return lines, nil
		}
		lines = append(lines, [2]string{key, value})
	}
	return nil, errMute
}

func (s socket) configure(c wgtypes.Config) error {
	_, err := s.ask(set(c))
	return err
}

// set is the request for the changes, save for the empty line at its end.
func set(c wgtypes.Config) string {
	var out strings.Builder
	line := func(key, value string) { _, _ = fmt.Fprintf(&out, "%s=%s\n", key, value) } // a builder does not fail
	line("set", "1")
	if c.PrivateKey != nil {
		line("private_key", hex.EncodeToString(c.PrivateKey[:]))
	}
	if c.ListenPort != nil {
		line("listen_port", strconv.Itoa(*c.ListenPort))
	}
	for _, p := range c.Peers {
		line("public_key", hex.EncodeToString(p.PublicKey[:]))
		if p.Remove {
			line("remove", "true")
			continue
		}
		line("preshared_key", hex.EncodeToString(p.PresharedKey[:]))
		line("endpoint", p.Endpoint.String())
		line("replace_allowed_ips", "true")
		for _, a := range p.AllowedIPs {
			line("allowed_ip", a.String())
		}
		line("persistent_keepalive_interval", strconv.Itoa(int(p.PersistentKeepaliveInterval.Seconds())))
	}
	return out.String()
}

func (s socket) device() (*wgtypes.Device, error) {
	lines, err := s.ask("get=1\n")
	if err != nil {
		return nil, err
	}
	d := &wgtypes.Device{Type: wgtypes.Userspace}
	for _, l := range lines {
		if err := read(d, l[0], l[1]); err != nil {
			return nil, fmt.Errorf("read answer of WireGuard process: %s: %w", l[0], err)
		}
	}
	return d, nil
}

// read takes in one line of an answer. Lines about a peer follow the one with its key.
func read(d *wgtypes.Device, key, value string) (err error) {
	switch key {
	case "private_key":
		d.PrivateKey, err = parseHex(value)
		return err
	case "listen_port":
		d.ListenPort, err = strconv.Atoi(value)
		return err
	case "public_key":
		d.Peers = append(d.Peers, wgtypes.Peer{})
	}
	if len(d.Peers) == 0 {
		return nil
	}
	p := &d.Peers[len(d.Peers)-1]
	var seconds int
	switch key {
	case "public_key":
		p.PublicKey, err = parseHex(value)
	case "preshared_key":
		p.PresharedKey, err = parseHex(value)
	case "endpoint":
		p.Endpoint, err = net.ResolveUDPAddr("udp", value)
	case "allowed_ip":
		var subnet *net.IPNet
		if _, subnet, err = net.ParseCIDR(value); err == nil {
			p.AllowedIPs = append(p.AllowedIPs, *subnet)
		}
	case "persistent_keepalive_interval":
		seconds, err = strconv.Atoi(value)
		p.PersistentKeepaliveInterval = time.Duration(seconds) * time.Second
	case "last_handshake_time_sec":
		if seconds, err = strconv.Atoi(value); seconds > 0 {
			p.LastHandshakeTime = time.Unix(int64(seconds), 0)
		}
	}
	return err
}

func parseHex(text string) (Key, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return Key{}, err
	}
	return wgtypes.NewKey(raw)
}
