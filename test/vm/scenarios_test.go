package vm

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// patience is for commands that may fail.
const patience = 4 * time.Minute

// What befalls machines, one thing after the other on the same one: to make a node of a new one takes longer than each of them.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, map[string]string{"/usr/local/bin/docker": docker, nextShoal: nextVersion(t)})
	for _, part := range []struct {
		name string
		run  func(*testing.T, *node)
	}{
		{"by a power cut right after stock commands", stockCommands}, {"by a reboot", reboot}, {"by a full disk", fullDisk}, {"by a read-only file system", readOnly},
		{"by steps of the clock", clockSteps}, {"by an upgrade under load", upgrade}, {"while off for 100 days", longOff},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			on := *n
			on.T = t
			defer func() {
				if t.Failed() {
					on.showLog()
				}
			}()
			part.run(t, &on)
		})
		if !ok {
			return // the machine is not as the next one needs it
		}
	}
}

// back is a boot after which everything must be there.
func (n *node) back(what string) {
	n.Helper()
	up := n.boot()
	whole := n.settled("all is back after " + what)
	n.startedOnce()
	n.Logf("%s: API after %v, all of it %v later", what, up, whole)
}

// A power cut seconds after three commands took all that they had made.
func stockCommands(t *testing.T, n *node) {
	n.run("docker volume create --label n=stock stock")
	n.ledger.Make("volume stock", noContent)
	n.ledger.Make("network stock", n.made("docker network create --label n=stock stock"))
	n.ledger.Make("container stock", n.made("docker run -d --name stock --network stock -v stock:/data --restart always busybox sleep 1000000"))
	if err := n.machine.Cut(); err != nil {
		t.Fatal(err)
	}
	n.back("a power cut right after stock commands")
	for _, command := range []string{"docker volume ls", "docker network ls", "docker ps", "docker service ls", "docker node ls", "ls -A /var/lib/shoal/quarantine 2>&1"} {
		out, err := n.try(command)
		t.Logf("# %s\n%s\n%v", command, out, err)
	}
}

// A container on an attachable overlay stayed ended after a reboot.
func reboot(t *testing.T, n *node) {
	_, _ = n.machine.Try(t.Context(), 5*time.Second, "systemctl reboot")
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	if err := n.machine.AwaitEnd(ctx); err != nil {
		t.Fatal(err)
	}
	n.back("a reboot")
}

// fill writes to a disk until not one more byte can be written.
const fill = `for size in 512M 64M 8M 1M; do i=0; while fallocate -l $size /fill-$size-$i 2>/dev/null; do i=$((i+1)); done; done
cat /dev/zero >/fill-rest 2>/dev/null; sync; cat /dev/zero >/fill-last 2>/dev/null; sync; df / | tail -1; ! echo 1 2>/dev/null >/fill-not`

// A disk that is filled to its last block costs words, and nothing once there is room again.
func fullDisk(t *testing.T, n *node) {
	before := n.starts()
	t.Logf("disk: %s", n.run(fill))
	refused := 0
	for _, line := range []string{
		"volume v2: shoal volume create --label n=v2 v2", "network n2: shoal network create --label n=n2 n2", "secret s2: echo x | shoal secret create s2 -",
		"container c2: shoal run -d --name c2 busybox sleep 1000000", "service w2: shoal service create -d -q --name w2 busybox sleep 1000000",
	} {
		object, command, _ := strings.Cut(line, ": ")
		out, err := n.machine.Try(t.Context(), patience, command)
		t.Logf("on the full disk: %s: %s (%v)", command, strings.ReplaceAll(out, "\n", " "), err == nil)
		if err == nil { // there was room for that one, and it was acknowledged
			if object == "volume v2" {
				out = noContent
			}
			n.ledger.Make(object, lastLine(out))
			continue
		}
		refused++
		if text := err.Error(); !strings.Contains(text, "no space left on device") && !strings.Contains(text, "Free some space") {
			t.Errorf("%s: the reason is not told: %v", command, err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused: the disk is not full")
	}
	containers, err := n.kept()
	for _, part := range []func() error{
		func() error { return err }, func() error { return n.containersRun(containers) }, func() error { return n.answers() },
	} {
		if err := part(); err != nil {
			t.Errorf("while the disk is full: %v", err)
		}
	}
	t.Logf("while the disk is full: %s; warnings: %s", n.starts(), n.complaints())
	_, err = n.machine.Try(t.Context(), patience, "systemctl restart shoal; for i in $(seq 40); do "+api("/_ping")+" && exit 0; sleep 1; done; exit 1")
	if err != nil {
		t.Errorf("started again on the full disk, the daemon does not serve its API: %v", err)
	}
	t.Logf("started again on the full disk: %s", n.starts())
	if err := n.answersOutside(); err != nil {
		t.Errorf("published port, with the daemon started again on the full disk: %v", err)
	}
	n.run("rm /fill*; sync")
	whole := n.settled("all is well once there is room")
	n.ledger.Make("network n3", n.made("shoal network create --label n=n3 n3"))
	n.run("shoal network rm n3")
	n.ledger.Remove("network n3")
	t.Logf("full disk: all of it %v after it was freed; before %s, after %s", whole, before, n.starts())
}

// stepClock sets the machine's clock by an offset that date(1) understands, and looks whether the node goes on.
func (n *node) stepClock(offset string) {
	n.Helper()
	n.run(fmt.Sprintf("date -s '%s'", offset))
	<-time.After(10 * time.Second) // in which the daemon may do something foolish
	n.Logf("clock stepped by %s: works after %v", offset, n.settled("the node works after the step of the clock by "+offset))
	n.startedOnce()
}

// Steps of the clock cost neither tasks nor the node's place.
func clockSteps(t *testing.T, n *node) {
	processes := n.processes()
	for _, offset := range []string{"+1 hour", "-2 hours", "+1 hour", "+100 days", "-200 days", "+100 days"} {
		n.stepClock(offset)
	}
	if now := n.processes(); now != processes {
		t.Errorf("containers were replaced:\n%s\nnow\n%s", processes, now)
	}
}

// processes is the running containers' IDs and process ids.
func (n *node) processes() string {
	n.Helper()
	return n.run("shoal ps -q --no-trunc | sort | xargs shoal inspect -f '{{.Id}} {{.State.Pid}}'")
}

// Whoever was off for 100 days comes back.
func longOff(t *testing.T, n *node) {
	if err := n.machine.Cut(); err != nil {
		t.Fatal(err)
	}
	n.machine.RTC = time.Now().AddDate(0, 0, 100)
	n.back("100 days off")
	if now := n.run("date -u +%F"); now < n.machine.RTC.UTC().Format(time.DateOnly) {
		t.Errorf("the machine believes that it is %s", now)
	}
}

// A file system that the kernel makes read-only, as after an error of the disk, costs words, and nothing once it can be written again.
func readOnly(t *testing.T, n *node) {
	before := n.starts()
	n.run("sync; echo 1 >/proc/sys/kernel/sysrq; echo u >/proc/sysrq-trigger; for i in $(seq 50); do grep -q '^/dev/[^ ]* / ext4 ro' /proc/mounts && exit 0; sleep 0.2; done; grep ' / ' /proc/mounts; exit 1")
	for _, command := range []string{"shoal volume create v4", "shoal network create n4"} {
		out, err := n.machine.Try(t.Context(), patience, command)
		if err == nil || !strings.Contains(err.Error(), "read-only file system") {
			t.Errorf("%s: %s, %v", command, out, err)
		}
	}
	if _, err := n.kept(); err != nil {
		t.Errorf("what needs no writing: %v", err)
	}
	if err := n.answersOutside(); err != nil {
		t.Errorf("published port: %v", err)
	}
	t.Logf("while it is read-only: before %s, now %s; warnings: %s", before, n.starts(), n.complaints())
	if err := n.machine.Cut(); err != nil {
		t.Fatal(err)
	}
	n.back("a read-only file system")
}
