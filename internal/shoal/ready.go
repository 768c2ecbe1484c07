package shoal

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ReadyLabel is the prefix of the labels of a service that describe its readiness check, such as "shoal.ready.http" (docs/health.md).
const ReadyLabel = "shoal.ready."

// ReadyCheck is a service's readiness check: how to find out whether a running task can serve. Exactly one of HTTP, TCP and Command is set.
type ReadyCheck struct {
	// HTTP and TCP are addresses in the task's network namespace; Path is the path of the HTTP request.
	HTTP, TCP netip.AddrPort
	Path      string
	Command   string        // for the shell in the container
	Interval  time.Duration // between two checks
	Timeout   time.Duration // of one check
	// Failures is how many failed checks in a row make a ready task unready.
	Failures int
}

// ReadyCheckOf reads the check from a service's labels. It is nil if they describe none. Labels that cannot be read are an error.
func ReadyCheckOf(labels map[string]string) (*ReadyCheck, error) {
	c := &ReadyCheck{Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}
	kinds, settings := 0, 0
	for label, value := range labels {
		field, ok := strings.CutPrefix(label, ReadyLabel)
		if !ok {
			continue
		}
		var err error
		switch field {
		case "http":
			kinds++
			addr, path, _ := strings.Cut(value, "/")
			c.Path = "/" + path
			c.HTTP, err = readyAddr(addr)
		case "tcp":
			kinds++
			c.TCP, err = readyAddr(value)
		case "cmd":
			kinds++
			if c.Command = value; strings.TrimSpace(value) == "" {
				err = fmt.Errorf("no command")
			}
		case "interval":
			settings++
			c.Interval, err = readyPeriod(value)
		case "timeout":
			settings++
			c.Timeout, err = readyPeriod(value)
		case "failures":
			settings++
			if c.Failures, err = strconv.Atoi(value); err != nil || c.Failures < 1 {
				err = fmt.Errorf("%q is no number above 0", value)
			}
		default:
			err = fmt.Errorf("%q is none of http, tcp, cmd, interval, timeout and failures", field)
		}
		if err != nil {
			return nil, fmt.Errorf("invalid label %s: %w", label, err)
		}
	}
	switch {
	case kinds == 0 && settings == 0:
		return nil, nil
	case kinds != 1:
		return nil, fmt.Errorf("invalid labels %s*: exactly one of http, tcp and cmd is needed", ReadyLabel)
	}
	return c, nil
}

// readyAddr reads ":8080", which is on the loopback interface, or an address with its port.
func readyAddr(text string) (netip.AddrPort, error) {
	if port, ok := strings.CutPrefix(text, ":"); ok {
		text = "127.0.0.1:" + port
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 {
		return addr, fmt.Errorf("%q is no address with a port", text)
	}
	return addr, nil
}

// readyPeriod reads a duration of at least 10 ms.
func readyPeriod(text string) (time.Duration, error) {
	const shortest = 10 * time.Millisecond
	d, err := time.ParseDuration(text)
	if err != nil || d < shortest {
		return 0, fmt.Errorf("%q is no time of at least %v", text, shortest)
	}
	return d, nil
}
