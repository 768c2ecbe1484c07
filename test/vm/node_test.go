package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/vm/ledger"
)

// node is a machine with a cluster of one and a service of two tasks on a published port.
type node struct {
	*testing.T
	machine *Machine
	ledger  *ledger.Ledger
	prefix  string // of the names of what its ledger is about; none: all
}

// Limits for a machine that is twenty times slower than others.
const (
	bootLimit   = 10 * time.Minute
	settleLimit = 8 * time.Minute
	replicas    = 2
)

// TestMain runs the tests for `make vm` only.
func TestMain(m *testing.M) {
	if os.Getenv("SHOAL_VM") == "" {
		fmt.Println("whole machines are started by `make vm`")
		return
	}
	os.Exit(m.Run())
}

// base is what the machines of this run are made of.
func base(t *testing.T) Base {
	t.Helper()
	release := os.Getenv("SHOAL_VM_RELEASE")
	if release == "" {
		release = "bookworm"
	}
	b, err := NewBase(t.Context(), release)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newMachine returns a node without a cluster, whose machine is off.
func newMachine(t *testing.T, cfg Config) *node {
	t.Helper()
	var err error
	if cfg.Dir, err = os.MkdirTemp(filepath.Join(tree(), ".cache", "vm"), "machine-*"); err != nil { //nolint:usetesting // the disk is too large for a memory, and may be kept
		t.Fatal(err)
	}
	n := &node{T: t, ledger: ledger.New()}
	t.Cleanup(func() {
		if os.Getenv("SHOAL_VM_KEEP") == "" {
			_ = os.RemoveAll(cfg.Dir)
		}
	})
	if n.machine, err = NewMachine(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			n.showLog()
		}
		if err := n.machine.Cut(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// newNode starts a machine, makes a node of it, and makes one of everything there, acknowledged.
func newNode(t *testing.T, programs map[string]string) *node {
	t.Helper()
	n := newMachine(t, Config{Base: base(t), Programs: programs})
	t.Logf("API after %v", n.boot())
	n.run("cd /usr/local/lib/vm && for i in busybox nginx; do shoal load -q -i $i.tar; done")
	// The machine is some twenty times slower than others, so heartbeats are given more time too.
	n.run("shoal swarm init --dispatcher-heartbeat 2m --advertise-addr " + n.machine.Address())
	n.run("shoal volume create --label n=web web && cd $(shoal volume inspect -f '{{.Mountpoint}}' web) && echo content-of-web >content && sync content .")
	n.ledger.Make("volume web", "content-of-web")
	for _, line := range []string{
		"network t-front: shoal network create -d overlay --attachable --label n=t-front t-front",
		"network t-n: shoal network create --label n=t-n t-n",
		"secret web: echo a secret of the service | shoal secret create web -",
		fmt.Sprintf("service web: shoal service create -d -q --name web --replicas %d -p 8080:80 --network t-front --secret source=web,target=/usr/share/nginx/html/secret,mode=0444 "+
			"--mount type=volume,src=web,dst=/usr/share/nginx/html/volume nginx", replicas),
		"container con: shoal run -d --name con --network t-n --restart always busybox sleep 1000000",
		"container on-overlay: shoal run -d --name on-overlay --restart always --network t-front busybox sleep 1000000",
	} {
		object, command, _ := strings.Cut(line, ": ")
		n.ledger.Make(object, n.run(command))
	}
	n.settled("all works")
	return n
}

// web is the name of the service with the published port.
func (n *node) web() string { return n.prefix + "web" }

// boot turns the machine on and returns when the API answers.
func (n *node) boot() time.Duration {
	n.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(n.Context(), bootLimit)
	defer cancel()
	if err := n.machine.Start(ctx); err != nil {
		n.Fatal(err)
	}
	n.within(bootLimit, "the API answers", func() error { _, err := n.try(api("/_ping")); return err })
	return time.Since(began).Round(time.Second)
}

func (n *node) try(command string) (string, error) { return n.machine.Run(n.Context(), command) }

func (n *node) run(command string) string {
	n.Helper()
	out, err := n.try(command)
	if err != nil {
		n.Fatal(err)
	}
	return out
}

// within waits until the condition holds.
func (n *node) within(limit time.Duration, what string, check func() error) time.Duration {
	n.Helper()
	began := time.Now()
	for {
		err := check()
		took := time.Since(began)
		if err == nil {
			return took.Round(time.Second)
		}
		if took > limit {
			n.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		<-time.After(500 * time.Millisecond)
	}
}

// settled waits until all that was acknowledged is there and works, with nothing set aside, and the cluster can be changed.
func (n *node) settled(what string) time.Duration {
	n.Helper()
	took := n.within(settleLimit, what, n.works)
	if aside := n.run("ls -A /var/lib/shoal/quarantine 2>/dev/null; true"); aside != "" {
		n.Errorf("%s, but this was set aside: %s", what, aside)
	}
	n.run("shoal service update -d -q --label-add settled=$(date +%s%N) " + n.web())
	return took
}

// startedOnce demands that the daemon has not ended since the boot.
func (n *node) startedOnce() {
	n.Helper()
	if got := n.starts(); !strings.Contains(got, "NRestarts=0") {
		n.Errorf("the daemon was started again: %s", got)
	}
}

// starts is how often systemd has started the daemon again since the boot, and the daemon's process.
func (n *node) starts() string {
	return strings.ReplaceAll(n.run("systemctl show shoal -p NRestarts -p MainPID"), "\n", " ")
}

// complaints is what the daemon says of itself, other than what docker always warns of.
func (n *node) complaints() string {
	var info struct{ Warnings []string }
	if err := n.get("/info", &info); err != nil {
		return err.Error()
	}
	return strings.Join(info.Warnings, "\n")
}

// showLog shows what the daemon has logged last.
func (n *node) showLog() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.Context()), time.Minute)
	defer cancel()
	out, err := n.machine.Run(ctx, "journalctl -u shoal -b --no-pager -o cat | tail -100; shoal info 2>&1 | grep -A20 WARNING; ls -R /var/lib/shoal/quarantine 2>/dev/null; shoal service ls; shoal ps -a")
	n.Log(out, err)
	boot, _ := os.ReadFile(n.machine.BootLog())
	n.Log(string(boot[max(0, len(boot)-2000):]))
}
