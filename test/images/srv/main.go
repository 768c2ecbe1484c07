// Command srv is the server of the test image "srv". It answers HTTP on port 80 and datagrams on UDP port 80 with its host name,
// its version ($V) and the address it sees its peer at. Told to stop, it asks its clients to close their connections and ends
// when they have, so that no request is lost by its own doing. As "srv load [-kept] URL…" it is a client instead: it sends requests
// until its standard input ends, and at least as many as it was told to; then it prints how many there were and how many failed.
// As "srv lookup NAME…" it prints, line by line, what each name leads to.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/test/load"
)

// patience is how long clients may take to close their connections.
const patience = 8 * time.Second

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) > 1 {
		if err := command(ctx, os.Args[1], os.Args[2:]); err != nil {
			log.Fatal(err)
		}
		return
	}
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	s := &server{name: host, version: os.Getenv("V")}
	if err := s.run(ctx); err != nil {
		log.Fatal(err)
	}
}

type server struct {
	name, version string
	closing       atomic.Bool

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
	empty chan struct{} // told when the last connection has gone
}

func (s *server) answer(peer netip.Addr) string {
	return fmt.Sprintf("host=%s v=%s peer=%s\n", s.name, s.version, peer.Unmap())
}

func (s *server) run(ctx context.Context) error {
	datagrams, err := net.ListenUDP("udp", &net.UDPAddr{Port: 80})
	if err != nil {
		return err
	}
	if err := receiveDestinations(datagrams); err != nil {
		return err
	}
	go s.serveDatagrams(datagrams)
	listener, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	s.conns, s.empty = map[net.Conn]bool{}, make(chan struct{}, 1)
	web := &http.Server{Handler: s, ConnState: s.watch, ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.closing.Store(true)
	limit := time.After(patience)
	for s.open() > 0 {
		select {
		case <-s.empty:
		case <-limit:
			return web.Close()
		}
	}
	return web.Close()
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.closing.Load() {
		w.Header().Set("Connection", "close")
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprint(w, s.answer(peer.Addr())) // a client that has gone is no fault
}

func (s *server) watch(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
		if len(s.conns) == 0 {
			select {
			case s.empty <- struct{}{}:
			default:
			}
		}
	case http.StateActive, http.StateIdle:
	}
}

func (s *server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// receiveDestinations makes the kernel say which address each datagram was sent to: a task has several, and the answer has to
// come from that one.
func receiveDestinations(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); failed == nil {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	if err != nil {
		return err
	}
	return failed
}

func (s *server) serveDatagrams(c *net.UDPConn) {
	question, control := make([]byte, 2048), make([]byte, 256)
	for {
		_, n, _, peer, err := c.ReadMsgUDPAddrPort(question, control)
		if err != nil {
			log.Fatal(err)
		}
		if _, _, err := c.WriteMsgUDPAddrPort([]byte(s.answer(peer.Addr())), control[:n], peer); err != nil {
			log.Print(err)
		}
	}
}

func command(ctx context.Context, name string, args []string) error {
	switch name {
	case "load":
		return request(ctx, args)
	case "lookup":
		for _, name := range args {
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
			if err != nil {
				return err
			}
			fmt.Println(name, addrs)
		}
		return nil
	}
	return fmt.Errorf("unknown command %s", name)
}

// request sends requests until standard input ends.
func request(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	kept := flags.Bool("kept", false, "use connections again")
	least := flags.Int64("least", 0, "requests to send at least")
	pause := flags.Duration("pause", 0, "how long to wait after each request")
	workers := flags.Int("workers", 1, "requests under way at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l := load.Start(ctx, load.Config{URLs: flags.Args(), Kept: *kept, Pause: *pause, Workers: *workers, Failed: func(f load.Failure) { log.Print(f) }})
	_, err := io.Copy(io.Discard, os.Stdin)
	for l.Sent() < *least && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	l.Stop()
	fmt.Println(l.Sent(), l.Failed())
	return err
}
