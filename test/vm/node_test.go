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
	shared  string // prefix of the service's name, its secret's and its network's
	tasks   int    // of the service
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
	n := &node{T: t, ledger: ledger.New(), tasks: replicas}
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
	n.loadImages()
	// The machine is some twenty times slower than others, so heartbeats are given more time too.
	n.run("shoal swarm init --dispatcher-heartbeat 2m --advertise-addr " + n.machine.Address())
	n.ledger.Make("volume web", n.webContent())
	n.serve()
	n.furnish()
	n.settled("all works")
	return n
}

func (n *node) loadImages() {
	n.Helper()
	n.run("cd /usr/local/lib/vm && for i in busybox nginx; do shoal load -q -i $i.tar; done")
}

// webContent makes the volume that the service's tasks on this node serve, and returns its content.
func (n *node) webContent() string {
	n.Helper()
	n.run("shoal volume create --label n=web web && cd $(shoal volume inspect -f '{{.Mountpoint}}' web) && echo content-of-web >content && sync content .")
	return "content-of-web"
}

// serve makes the service, of replicas tasks, with its secret and its network.
func (n *node) serve() {
	n.Helper()
	name := n.web()
	n.ledger.Make("network "+name, n.made(fmt.Sprintf("shoal network create -d overlay --attachable --label n=%s %s", name, name)))
	n.ledger.Make("secret "+name, n.made("echo a secret of the service | shoal secret create "+name+" -"))
	n.ledger.Make("service "+name, n.made(fmt.Sprintf("shoal service create -d -q --name %s --replicas %d -p 8080:80 --network %s --secret source=%s,target=/usr/share/nginx/html/secret,mode=0444 "+
		"--mount type=volume,src=web,dst=/usr/share/nginx/html/volume nginx", name, n.tasks, name, name)))
}

// furnish makes a network and containers on it and on the service's.
func (n *node) furnish() {
	n.Helper()
	network := n.prefix + "own"
	n.ledger.Make("network "+network, n.made(fmt.Sprintf("shoal network create --label n=%s %s", network, network)))
	for name, on := range map[string]string{n.prefix + "con": network, n.onOverlay(): n.web()} {
		n.ledger.Make("container "+name, n.made(fmt.Sprintf("shoal run -d --name %s --network %s --restart always busybox sleep 1000000", name, on)))
	}
}

// made runs a command that makes something, and returns the ID that it prints last.
func (n *node) made(command string) string {
	n.Helper()
	return lastLine(n.run(command))
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// web is the name of the service with the published port.
func (n *node) web() string { return n.shared + "web" }

// onOverlay is the name of the container on the service's network.
func (n *node) onOverlay() string { return n.prefix + "on-overlay" }

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

// within waits until the condition holds, and shows now and then why it does not.
func (n *node) within(limit time.Duration, what string, check func() error) time.Duration {
	n.Helper()
	const interval = 30 * time.Second
	began, shown := time.Now(), time.Now()
	for {
		err := check()
		took := time.Since(began)
		if err == nil {
			return took.Round(time.Second)
		}
		if time.Since(shown) > interval {
			shown = time.Now()
			n.Logf("after %v: not yet: %s: %v", took.Round(time.Second), what, err)
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
	if aside := n.aside(); aside != "" {
		n.Errorf("%s, but this was set aside: %s", what, aside)
	}
	n.change()
	return took
}

// aside is what was found damaged.
func (n *node) aside() string {
	n.Helper()
	return n.run("ls -A /var/lib/shoal/quarantine 2>/dev/null; true")
}

// change changes the service, but none of its tasks.
func (n *node) change() {
	n.Helper()
	n.run("shoal service update -d -q --label-add settled=$(date +%s%N) " + n.web())
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
