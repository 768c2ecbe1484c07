package vm

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Network carries frames between machines: what one of them sends reaches all others.
type Network struct {
	dir   string
	wg    sync.WaitGroup
	ports map[int]*net.UnixConn // by the machine's place
}

// NewNetwork returns a network with places for machines 1 to n. Its sockets are in dir.
func NewNetwork(dir string, n int) (*Network, error) {
	w := &Network{dir: dir, ports: map[int]*net.UnixConn{}}
	for place := 1; place <= n; place++ {
		_, theirs := w.plug(place)
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: theirs, Net: "unixgram"})
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.ports[place] = conn
	}
	for place := range w.ports {
		w.wg.Go(func() { w.carry(place) })
	}
	return w, nil
}

// plug is the paths of a place's two sockets: the machine's and the network's.
func (w *Network) plug(place int) (own, theirs string) {
	path := filepath.Join(w.dir, "net"+strconv.Itoa(place))
	return path + ".machine", path + ".network"
}

// carry passes on what the machine at a place sends, until the network is closed.
func (w *Network) carry(place int) {
	const longest = 1 << 17 // of a frame, with what a card leaves to segment
	frame := make([]byte, longest)
	for {
		n, err := w.ports[place].Read(frame)
		if err != nil {
			return
		}
		for other, conn := range w.ports {
			if other != place {
				own, _ := w.plug(other)
				_, _ = conn.WriteToUnix(frame[:n], &net.UnixAddr{Name: own, Net: "unixgram"}) // a machine that is off hears nothing
			}
		}
	}
}

// Close ends the network.
func (w *Network) Close() error {
	var errs []error
	for place, conn := range w.ports {
		errs = append(errs, conn.Close())
		own, theirs := w.plug(place)
		_, _ = os.Remove(own), os.Remove(theirs)
	}
	w.wg.Wait()
	return errors.Join(errs...)
}
