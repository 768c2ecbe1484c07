package driver

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// fluentdSender writes fluentd's forward protocol, https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1, in its message mode.
type fluentdSender struct {
	link
	tag       string
	record    map[string]string // what is the same for every line
	subSecond bool
	ack       bool
	reconnect time.Duration // how old a connection may be; 0 for any age
	connected time.Time
}

// fluentdOptions is what the options say.
type fluentdOptions struct {
	network, address string
	policy           Policy
	subSecond, ack   bool
	reconnect        time.Duration
	writeTimeout     time.Duration
}

// newFluentd reads the options.
func newFluentd(options map[string]string, f Facts, p Policy) (Sender, Policy, error) {
	o, err := parseFluentd(options, p)
	if err != nil {
		return nil, p, err
	}
	s := &fluentdSender{subSecond: o.subSecond, ack: o.ack, reconnect: o.reconnect}
	s.link = link{network: o.network, address: o.address, writeTimeout: o.writeTimeout}
	if o.network == "tls" {
		s.network, s.tls = "tcp", &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if s.tag, err = Tag(f, options, defaultTag); err != nil {
		return nil, p, err
	}
	if s.record, err = Attributes(f, options, nil); err != nil {
		return nil, p, err
	}
	if s.record == nil {
		s.record = map[string]string{}
	}
	if _, ok := s.record["container_id"]; !ok {
		s.record["container_id"] = f.ID
	}
	if _, ok := s.record["container_name"]; !ok {
		s.record["container_name"] = "/" + f.Name
	}
	return s, o.policy, nil
}

// Connect implements Sender.
func (s *fluentdSender) Connect(ctx context.Context) error {
	if s.conn != nil && s.reconnect > 0 && time.Since(s.connected) > s.reconnect {
		s.close()
	}
	if s.conn == nil {
		s.connected = time.Now()
	}
	return s.connect(ctx)
}

// Send implements Sender.
func (s *fluentdSender) Send(ctx context.Context, m Message) error {
	if err := s.Connect(ctx); err != nil {
		return err
	}
	record := maps.Clone(s.record)
	setDefault(record, "source", "stdout")
	if m.Stderr {
		record["source"] = "stderr"
	}
	setDefault(record, "log", string(m.Text))
	if p := m.Partial; p != nil {
		record["partial_message"], record["partial_id"] = "true", p.ID
		record["partial_ordinal"], record["partial_last"] = strconv.Itoa(p.Ordinal), strconv.FormatBool(p.Last)
	}
	id := ""
	if s.ack {
		random := make([]byte, 16)
		_, _ = rand.Read(random) // never fails
		id = base64.StdEncoding.EncodeToString(random)
	}
	return s.write(ctx, s.encode(m.Time, record, id), func(conn net.Conn) error { return awaitAck(conn, id) })
}

// setDefault sets an entry that is not there: labels and environment win over what the driver tells, as in Docker.
func setDefault(m map[string]string, key, value string) {
	if _, ok := m[key]; !ok {
		m[key] = value
	}
}

// encode is a message of the protocol: tag, time, record, options.
func (s *fluentdSender) encode(at time.Time, record map[string]string, id string) []byte {
	out := appendArrayHeader(nil, 4)
	out = appendString(out, s.tag)
	if s.subSecond {
		out = appendEventTime(out, at)
	} else {
		out = appendInt(out, at.Unix())
	}
	out = appendMap(out, record)
	option := map[string]string{}
	if id != "" {
		option["chunk"] = id
	}
	return appendMap(out, option)
}

// awaitAck reads the answer to a message that has asked for it by an ID.
func awaitAck(conn net.Conn, id string) error {
	if id == "" {
		return nil
	}
	answer, err := readMap(bufio.NewReader(conn))
	if err != nil {
		return fmt.Errorf("read fluentd's acknowledgment: %w", err)
	}
	if answer["ack"] != id {
		return fmt.Errorf("fluentd has acknowledged %q, not %q", answer["ack"], id)
	}
	return nil
}

// Close implements Sender.
func (s *fluentdSender) Close() { s.close() }

// validateFluentd checks what Docker checks of the options when a container is made.
func validateFluentd(options map[string]string) error {
	own := []string{"fluentd-address", "fluentd-async", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries",
		"fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout"}
	if err := known(options, "unknown log opt '%s' for fluentd log driver", append(own, attributeOptions()...)); err != nil {
		return err
	}
	_, err := parseFluentd(options, Policy{})
	return err
}

// parseFluentd reads the options of the driver.
func parseFluentd(options map[string]string, p Policy) (fluentdOptions, error) {
	o := fluentdOptions{policy: p}
	o.policy.Wait, o.policy.MaxWait, o.policy.Waits, o.policy.Buffer = time.Second, time.Minute, true, 1<<20
	var err error
	if o.network, o.address, err = fluentdAddress(options["fluentd-address"]); err != nil {
		return o, fmt.Errorf("invalid fluentd-address (%s): %w", options["fluentd-address"], err)
	}
	if text := options["fluentd-buffer-limit"]; text != "" {
		if o.policy.Buffer, err = units.RAMInBytes(text); err != nil {
			return o, err
		}
	}
	if text := options["fluentd-retry-wait"]; text != "" {
		if o.policy.Wait, err = time.ParseDuration(text); err != nil {
			return o, err
		}
	}
	if text := options["fluentd-max-retries"]; text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return o, err
		}
		if n > math.MaxInt32 {
			return o, errors.New("invalid fluentd-max-retries: value out of range")
		}
		o.policy.Tries = int(n) + 1
	}
	for key, into := range map[string]*bool{"fluentd-async": &o.policy.Async, "fluentd-sub-second-precision": &o.subSecond, "fluentd-request-ack": &o.ack} {
		if text := options[key]; text != "" {
			if *into, err = strconv.ParseBool(text); err != nil {
				return o, err
			}
		}
	}
	return o, o.parseTimes(options)
}

// parseTimes reads the options that have bounds of their own.
func (o *fluentdOptions) parseTimes(options map[string]string) error {
	const least, most = 100 * time.Millisecond, 10 * time.Second
	var err error
	if text, key := options["fluentd-async-reconnect-interval"], "fluentd-async-reconnect-interval"; text != "" {
		if o.reconnect, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("invalid value for %s: %w", key, err)
		}
		if o.reconnect != 0 && (o.reconnect < least || o.reconnect > most) {
			return fmt.Errorf("invalid value for %s: value (%q) must be between %s and %s", key, o.reconnect, least, most)
		}
	}
	text := options["fluentd-write-timeout"]
	if text == "" {
		return nil
	}
	if o.writeTimeout, err = time.ParseDuration(text); err != nil {
		return errors.New("invalid value for fluentd-write-timeout: value must be a duration: " + err.Error())
	}
	if o.writeTimeout < 0 {
		return errors.New("invalid value for fluentd-write-timeout: value must be a duration that is non-negative")
	}
	return nil
}

// fluentdAddress splits the address of a fluentd.
func fluentdAddress(text string) (network, address string, err error) {
	if text == "" {
		return "tcp", "127.0.0.1:24224", nil
	}
	if !strings.Contains(text, "://") {
		text = "tcp://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix":
		if strings.TrimLeft(u.Path, "/") == "" {
			return "", "", errors.New("path is empty")
		}
		return "unix", u.Path, nil
	case "tcp", "tls":
	default:
		return "", "", fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	if u.Path != "" {
		return "", "", errors.New("should not contain a path element")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "24224"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("invalid port: %w", err)
	}
	return u.Scheme, net.JoinHostPort(host, port), nil
}
