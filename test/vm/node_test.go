package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// node is a machine with a cluster of one and a service of two tasks on a published port.
type node struct {
	*testing.T
	machine *Machine
	ledger  *Ledger
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

// newNode starts a machine and makes a node of it.
func newNode(t *testing.T) *node {
	t.Helper()
	release := os.Getenv("SHOAL_VM_RELEASE")
	if release == "" {
		release = "bookworm"
	}
	base, err := NewBase(t.Context(), release)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(base.dir), "machine-*") //nolint:usetesting // the disk is too large for a memory, and may be kept
	if err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, ledger: NewLedger()}
	if n.machine, err = NewMachine(t.Context(), base, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			n.showLog()
		}
		if err := n.machine.Cut(); err != nil {
			t.Error(err)
		}
		if os.Getenv("SHOAL_VM_KEEP") == "" {
			_ = os.RemoveAll(dir)
		}
	})
	n.boot()
	for _, line := range []string{
		"cd /usr/local/lib/vm && for i in busybox nginx; do shoal load -q -i $i.tar; done",
		// The machine is some twenty times slower than others, so heartbeats are given more time too.
		"shoal swarm init --dispatcher-heartbeat 2m --advertise-addr " + Address,
		fmt.Sprintf("shoal service create -d --name web --replicas %d -p 8080:80 nginx", replicas),
	} {
		n.run(line)
	}
	n.settled("the service works")
	return n
}

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

// api is the command that asks the daemon.
func api(path string) string {
	return "curl -sf --max-time 60 --unix-socket /var/run/docker.sock http://d" + path
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

// settled waits until all that was acknowledged is there and works.
func (n *node) settled(what string) time.Duration {
	n.Helper()
	return n.within(settleLimit, what, n.works)
}

// works tells what does not work: the objects that were acknowledged, the containers, the service.
func (n *node) works() error {
	there, err := n.objects()
	if err != nil {
		return err
	}
	lines, err := n.machine.Told()
	if err != nil {
		return err
	}
	if err := n.ledger.Enter(lines); err != nil {
		return err
	}
	if wrong := n.ledger.Compare(there); len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	if err := n.containersRun(); err != nil {
		return err
	}
	return n.serviceWorks()
}

// get asks the daemon and decodes its answer.
func (n *node) get(path string, out any) error {
	text, err := n.try(api(path))
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

// objects is what the daemon has of the kinds that are made and removed all the time.
func (n *node) objects() (map[string]bool, error) {
	var volumes struct {
		Volumes []struct {
			Name   string
			Labels map[string]string
		}
	}
	var networks []struct {
		Name   string
		Labels map[string]string
	}
	var secrets []struct{ Spec struct{ Name string } }
	there := map[string]bool{}
	if err := n.get("/volumes", &volumes); err != nil {
		return nil, err
	}
	for _, v := range volumes.Volumes {
		there["volume "+v.Name] = v.Labels["n"] == v.Name
	}
	if err := n.get("/networks", &networks); err != nil {
		return nil, err
	}
	for _, v := range networks {
		if strings.HasPrefix(v.Name, "t-") {
			there["network "+v.Name] = v.Labels["n"] == v.Name
		}
	}
	if err := n.get("/secrets", &secrets); err != nil {
		return nil, err
	}
	for _, v := range secrets {
		there["secret "+v.Spec.Name] = true
	}
	containers, err := n.containers()
	for name := range containers {
		there["container "+name] = true
	}
	return there, err
}

// containers is the states of the containers that are no tasks, by name.
func (n *node) containers() (map[string]string, error) {
	var list []struct {
		Names  []string
		State  string
		Labels map[string]string
	}
	states := map[string]string{}
	if err := n.get("/containers/json?all=1", &list); err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.Labels["com.docker.swarm.task.id"] == "" && len(c.Names) > 0 {
			states[strings.TrimPrefix(c.Names[0], "/")] = c.State
		}
	}
	return states, nil
}

// containersRun tells of a container that was started and does not run.
func (n *node) containersRun() error {
	states, err := n.containers()
	if err != nil {
		return err
	}
	for name, state := range states {
		if state != "running" && n.ledger.Acknowledged("container "+name) {
			return fmt.Errorf("container %s is %s", name, state)
		}
	}
	return nil
}

// serviceWorks asks for the tasks, and the published port by two of its addresses.
func (n *node) serviceWorks() error {
	var tasks []struct {
		ServiceID    string // none for a plain container on an overlay
		DesiredState string
		Status       struct{ State string }
	}
	if err := n.get("/tasks", &tasks); err != nil {
		return err
	}
	running := 0
	for _, task := range tasks {
		if task.ServiceID != "" && task.DesiredState == "running" && task.Status.State == "running" {
			running++
		}
	}
	if running != replicas {
		return fmt.Errorf("%d of %d tasks run", running, replicas)
	}
	for _, addr := range []string{"127.0.0.1", Address} {
		if _, err := n.try("curl -sf -o /dev/null --max-time 20 http://" + addr + ":8080/"); err != nil {
			return fmt.Errorf("published port: %w", err)
		}
	}
	return nil
}

// showLog shows what the daemon has logged last.
func (n *node) showLog() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.Context()), time.Minute)
	defer cancel()
	out, err := n.machine.Run(ctx, "journalctl -u shoal -b --no-pager -o cat | tail -60; shoal info 2>&1 | grep -A20 WARNING; ls -R /var/lib/shoal/quarantine 2>/dev/null")
	n.Log(out, err)
	boot, _ := os.ReadFile(n.machine.BootLog())
	n.Log(string(boot[max(0, len(boot)-2000):]))
}

// starts is how often systemd has started the daemon again since the boot, and the daemon's process.
func (n *node) starts() string { return n.run("systemctl show shoal -p NRestarts -p MainPID") }

// complaints is what the daemon says of itself, other than what docker always warns of.
func (n *node) complaints() string {
	var info struct{ Warnings []string }
	if err := n.get("/info", &info); err != nil {
		return err.Error()
	}
	return strings.Join(info.Warnings, "\n")
}
