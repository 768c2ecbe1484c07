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

// Process is the interface of the process that serves the socket at the path. Nothing is opened until the Device is used.
func Process(path string) Device { return Device{socket{path}} }

// socket speaks the text protocol of user-space WireGuard (https://www.wireguard.com/xplatform/).
type socket struct{ path string }

// answerTimeout bounds the wait for the process, which answers from memory.
const answerTimeout = 2 * time.Second

// ask sends a request and returns the answer's lines as pairs of key and value.
func (s socket) ask(request string) (lines [][2]string, err error) {
	conn, err := net.DialTimeout("unix", s.path, answerTimeout)
	if err != nil {
		return nil, fmt.Errorf("reach WireGuard process: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
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
	return nil, errNoAnswer
}

func (s socket) configure(c wgtypes.Config) error {
	_, err := s.ask(setRequest(c))
	return err
}

// setRequest is the request for the changes, without the empty line that ends it.
func setRequest(c wgtypes.Config) string {
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
		if err := parseLine(d, l[0], l[1]); err != nil {
			return nil, fmt.Errorf("read answer of WireGuard process: %s: %w", l[0], err)
		}
	}
	return d, nil
}

// parseLine adds one line of an answer to the device. Lines about a peer follow the one with its public key.
func parseLine(d *wgtypes.Device, key, value string) (err error) {
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
