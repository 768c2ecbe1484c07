package daemon

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/daemon/config"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/quarantine"
)

// A TCP address of the API that was not there yet, as early in a boot, or a port that another program had, kept the daemon from starting.
func TestTheAPIIsServedWhereItCanBe(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	log := slog.New(slog.DiscardHandler)
	host := "tcp://" + taken.Addr().String()
	d := &Daemon{cfg: config.Config{Hosts: []string{host, "unix://" + filepath.Join(t.TempDir(), "s")}}, log: log,
		quarantine: quarantine.Open(t.TempDir(), log, &events.Bus{})}
	all, missing, err := d.listen()
	if err != nil || len(all) != 1 || missing[host] == nil {
		t.Fatalf("%v, %v, %v", all, missing, err)
	}
	defer all[0].Close()
	later := make(chan net.Listener, 1)
	d.listenLater(host, missing[host], func(l net.Listener) { later <- l })
	if len(d.quarantine.Problems()) != 1 {
		t.Errorf("%q", d.quarantine.Problems())
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { _ = d.quarantine.Run(ctx) }()
	select {
	case l := <-later:
		_ = l.Close()
	case <-ctx.Done():
		t.Error("it is not served when the port is free")
	}
	d.cfg.Hosts = d.cfg.Hosts[:1]
	if _, _, err := d.listen(); err != nil {
		t.Error(err)
	}
}

// Without a single place to serve at the daemon says so and ends.
func TestWithoutAnyAPITheDaemonDoesNotStart(t *testing.T) {
	d := &Daemon{cfg: config.Config{Hosts: []string{"tcp://192.0.2.1:1"}}, log: slog.New(slog.DiscardHandler)}
	if all, _, err := d.listen(); err == nil {
		t.Errorf("%v", all)
	}
}
