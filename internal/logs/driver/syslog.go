package driver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Severities of syslog (RFC 5424, 6.2.1), which gelf and journald have too.
const (
	severityError = 3
	severityInfo  = 6
)

// secure is syslog's scheme for TLS.
const secure = "tcp+tls"

// syslogSender writes to a syslog daemon, of the machine or in the network.
type syslogSender struct {
	link
	network  string // udp, tcp, tcp+tls, unix, unixgram, or empty for the machine's
	facility int
	format   string // "", rfc3164, rfc5424, rfc5424micro
	tag      string
	hostname string
}

// newSyslog reads the options.
func newSyslog(options map[string]string, f Facts) (*syslogSender, error) {
	s := &syslogSender{format: options["syslog-format"]}
	var err error
	if s.tag, err = Tag(f, options, defaultTag); err != nil {
		return nil, err
	}
	if s.hostname, err = hostname(); err != nil {
		return nil, err
	}
	if s.network, s.address, err = syslogAddress(options["syslog-address"]); err != nil {
		return nil, err
	}
	if s.facility, err = syslogFacility(options["syslog-facility"]); err != nil {
		return nil, err
	}
	s.link.network = s.network
	if s.network == secure {
		s.link.network = "tcp"
		s.tls, err = syslogTLS(options)
	}
	return s, err
}

// Connect implements Sender.
func (s *syslogSender) Connect(ctx context.Context) error {
	if s.network != "" || s.conn != nil {
		return s.connect(ctx)
	}
	for _, network := range []string{"unixgram", "unix"} {
		for _, address := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			s.link.network, s.address = network, address
			if s.connect(ctx) == nil {
				return nil
			}
		}
	}
	return errors.New("Unix syslog delivery error") //nolint:staticcheck // the text is Docker's
}

// Send implements Sender. Empty lines are left out, as Docker does.
func (s *syslogSender) Send(ctx context.Context, m Message) error {
	if len(m.Text) == 0 {
		return nil
	}
	if err := s.Connect(ctx); err != nil {
		return err
	}
	return s.write(ctx, []byte(s.frame(m)), nil)
}

// Close implements Sender.
func (s *syslogSender) Close() { s.close() }

// frame is a message as it goes over the wire. In every format it ends in a newline, also in datagrams.
func (s *syslogSender) frame(m Message) string {
	severity := severityInfo
	if m.Stderr {
		severity = severityError
	}
	priority, pid, at := s.facility<<3|severity, os.Getpid(), m.Time.Local()
	text := strings.TrimSuffix(string(m.Text), "\n") + "\n"
	layout := time.RFC3339
	switch s.format {
	case "":
		return fmt.Sprintf("<%d>%s %s[%d]: %s", priority, at.Format(time.Stamp), s.tag, pid, text)
	case "rfc3164":
		return fmt.Sprintf("<%d>%s %s %s[%d]: %s", priority, at.Format(time.Stamp), s.hostname, s.tag, pid, text)
	case "rfc5424micro":
		layout = "2006-01-02T15:04:05.000000Z07:00"
	}
	message := fmt.Sprintf("<%d>1 %s %s %s %d %s - %s", priority, at.Format(layout), s.hostname, s.tag, pid, s.tag, text)
	if s.network == secure { // RFC 5425: its length comes first
		return strconv.Itoa(len(message)) + " " + message
	}
	return message
}

// validateSyslog checks what Docker checks of the options when a container is made.
func validateSyslog(options map[string]string) error {
	own := []string{"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"}
	if err := known(options, "unknown log opt '%s' for syslog log driver", append(own, attributeOptions()...)); err != nil {
		return err
	}
	if _, _, err := syslogAddress(options["syslog-address"]); err != nil {
		return err
	}
	if _, err := syslogFacility(options["syslog-facility"]); err != nil {
		return err
	}
	switch options["syslog-format"] {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
		return nil
	}
	return errors.New("Invalid syslog format") //nolint:staticcheck // the text is Docker's
}

// syslogAddress splits the address of a syslog daemon; empty stays so.
func syslogAddress(text string) (network, address string, err error) {
	if text == "" {
		return "", "", nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if _, err := os.Stat(u.Path); err != nil {
			return "", "", err
		}
		return u.Scheme, u.Path, nil
	case "udp", "tcp", secure:
	default:
		return "", "", fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		if !strings.Contains(err.Error(), "missing port in address") {
			return "", "", err
		}
		return u.Scheme, net.JoinHostPort(strings.Trim(u.Host, "[]"), "514"), nil
	}
	return u.Scheme, u.Host, nil
}

// syslogFacility is the number of a facility, by name or number.
func syslogFacility(text string) (int, error) {
	names := []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	if text == "" {
		text = "daemon"
	}
	if n := slices.Index(names, text); n >= 0 {
		return n, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(names) {
		return n, nil
	}
	return 0, errors.New("invalid syslog facility")
}

// syslogTLS is the settings for an address with TLS. Any value of syslog-tls-skip-verify turns checks off, also an empty one.
func syslogTLS(options map[string]string) (*tls.Config, error) {
	_, insecure := options["syslog-tls-skip-verify"]
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // what the user has asked for
	if ca := options["syslog-tls-ca-cert"]; ca != "" && !insecure {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("failed to read system certificates: %w", err)
		}
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("could not read CA certificate %q: %w", ca, err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("failed to append certificates from PEM file: %q", ca)
		}
		c.RootCAs = pool
	}
	cert, key := options["syslog-tls-cert"], options["syslog-tls-key"]
	if cert == "" && key == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("error reading X509 key pair - make sure the key is not encrypted (cert: %q, key: %q): %w", cert, key, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}
