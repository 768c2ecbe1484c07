package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// listenTimeout bounds the wait for a started task to listen. A task that does not listen by then is treated as running all the
// same: it may serve by UDP, or not serve at all.
const listenTimeout = 3 * time.Second

// awaitListeners waits until the task listens, in the network namespace of process pid, on every published TCP port and, if it is
// on a network, on at least one port that its image exposes. Balancers must not use it earlier, because connections would be
// refused. The kernel has no event for listen(2), so /proc/PID/net/tcp is read at growing intervals. It is false when the time is over.
func awaitListeners(ctx context.Context, pid int, task *shoal.Task, exposed []uint16) (listening bool) {
	published := publishedTCP(task)
	if len(task.Networks) == 0 {
		exposed = nil
	}
	if len(published)+len(exposed) == 0 || pid == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	const first, longest = 2 * time.Millisecond, 50 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		if listens(listeners(pid), published, exposed) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func listens(open map[uint16]bool, published, exposed []uint16) bool {
	for _, port := range published {
		if !open[port] {
			return false
		}
	}
	return len(exposed) == 0 || slices.ContainsFunc(exposed, func(port uint16) bool { return open[port] })
}

func publishedTCP(task *shoal.Task) []uint16 {
	if task.EndpointSpec == nil {
		return nil
	}
	var ports []uint16
	for _, p := range task.EndpointSpec.Ports {
		if p.Protocol == shoal.TCP || p.Protocol == "" {
			ports = append(ports, p.Target)
		}
	}
	return ports
}

// listeners is the TCP ports in state LISTEN in a process's network namespace, without those on IPv4 loopback addresses. See
// proc_net_tcp(5).
func listeners(pid int) map[uint16]bool {
	open := map[uint16]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net", table))
		if err != nil {
			continue // the process has ended: whoever waits for it knows
		}
		for line := range bytes.Lines(text) {
			if port, ok := listener(line); ok {
				open[port] = true
			}
		}
	}
	return open
}

// listener reads one line of the table: "sl local_address rem_address st …" with addresses as hex, in host byte order.
func listener(line []byte) (uint16, bool) {
	const stateListen = "0A"
	fields := bytes.Fields(line)
	const state = 3
	if len(fields) <= state || string(fields[state]) != stateListen {
		return 0, false
	}
	addr, port, ok := bytes.Cut(fields[1], []byte(":"))
	var number [2]byte
	if !ok || len(port) != hex.EncodedLen(len(number)) {
		return 0, false
	}
	if _, err := hex.Decode(number[:], port); err != nil {
		return 0, false
	}
	const loopback4, v4 = "7F", 8
	if len(addr) == v4 && string(addr[v4-2:]) == loopback4 {
		return 0, false
	}
	return uint16(number[0])<<8 | uint16(number[1]), true
}
