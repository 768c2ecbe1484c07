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

// listenLimit bounds the wait for a started task to listen. One that never does runs all the same: it may well serve in other ways.
const listenLimit = 3 * time.Second

// awaitListeners returns when the task listens, in the network namespace of its process: on every published TCP port, and, if
// others may call it over a network, on at least one of the ports that its image exposes. A balancer that sent connections
// there earlier would have them refused. The kernel tells nobody of a listen(2), so the tables are read again and again, at
// growing intervals.
func awaitListeners(ctx context.Context, pid int, task *shoal.Task, exposed []uint16) {
	published := publishedTCP(task)
	if len(task.Networks) == 0 {
		exposed = nil
	}
	if len(published)+len(exposed) == 0 || pid == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, listenLimit)
	defer cancel()
	const first, longest = 2 * time.Millisecond, 50 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		if listens(listeners(pid), published, exposed) {
			return
		}
		select {
		case <-ctx.Done():
			return
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
