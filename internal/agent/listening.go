package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// listenLimit bounds the wait for a started task to listen on the ports that its service publishes. A task that publishes a
// port and never listens there runs all the same: it may well serve others.
const listenLimit = 3 * time.Second

// awaitListeners returns when every published TCP port of the task has a listener in the network namespace of its process. A
// balancer that sent connections there earlier would have them refused. The kernel tells nobody of a listen(2), so the
// tables are read again and again, at growing intervals.
func awaitListeners(ctx context.Context, pid int, task *shoal.Task) {
	ports := publishedTCP(task)
	if len(ports) == 0 || pid == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, listenLimit)
	defer cancel()
	const first, longest = 2 * time.Millisecond, 50 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		open := listeners(pid)
		for len(ports) > 0 && open[ports[0]] {
			ports = ports[1:]
		}
		if len(ports) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
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

// listeners is the TCP ports that are listened on in a process's network namespace, by proc_net_tcp(5), those on loopback
// addresses left out.
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
