package vm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// patience is for commands that may fail.
const patience = 4 * time.Minute

// furnish makes one of everything, acknowledged.
func (n *node) furnish() {
	n.Helper()
	for _, line := range []string{
		"shoal volume create --label n=vol vol", "shoal network create --label n=t-n t-n",
		"echo secret | shoal secret create sec -", "shoal run -d --name con --restart always busybox sleep 1000000",
		"shoal network create -d overlay --attachable --label n=t-front t-front",
		"shoal run -d --name on-overlay --restart always --network t-front busybox sleep 1000000",
	} {
		n.run(line)
	}
	for _, object := range []string{"volume vol", "network t-n", "network t-front", "secret sec", "container con", "container on-overlay"} {
		n.ledger.present[object], n.ledger.made[object] = true, true
	}
}

// What befalls machines, one thing after the other on the same one: to make a node of a new one takes longer than each of them.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	n := newNode(t)
	n.furnish()
	n.settled("all is there")
	for _, part := range []struct {
		name string
		run  func(*testing.T, *node)
	}{
		{"by a reboot", reboot}, {"by a full disk", fullDisk}, {"by a read-only file system", readOnly}, {"by steps of the clock", clockSteps}, {"while off for 100 days", longOff},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			on := *n
			on.T = t
			part.run(t, &on)
		})
		if !ok {
			return // the machine is not as the next one needs it
		}
	}
}

// A container on an attachable overlay stayed ended after a reboot.
func reboot(t *testing.T, n *node) {
	_, _ = n.machine.Try(t.Context(), 5*time.Second, "systemctl reboot")
	<-n.machine.done // qemu ends instead of starting anew
	up := n.boot()
	whole := n.settled("all is back after the reboot")
	t.Logf("reboot: API after %v, all of it %v later", up, whole)
}

// A disk that is filled to its last block costs words, and nothing once there is room again.
func fullDisk(t *testing.T, n *node) {
	before := n.starts()
	n.run("head -c 100G /dev/zero >/fill1 2>/dev/null; for i in 2 3 4; do head -c 1G /dev/zero >/fill$i 2>/dev/null; done; sync; df / | tail -1")
	for _, command := range []string{
		"shoal volume create --label n=v2 v2", "shoal network create --label n=t-n2 t-n2", "echo x | shoal secret create s2 -", "shoal run -d --name c2 busybox sleep 1000",
		"shoal service create -d --name w2 busybox sleep 1000",
	} {
		out, err := n.machine.Try(t.Context(), patience, command)
		t.Logf("on the full disk: %s: %s (%v)", command, strings.ReplaceAll(out, "\n", " "), err != nil)
		if err == nil { // there was room for that one, and it was acknowledged
			switch {
			case strings.Contains(command, "volume"):
				n.ledger.present["volume v2"] = true
			case strings.Contains(command, "network"):
				n.ledger.present["network t-n2"] = true
			case strings.Contains(command, "secret"):
				n.ledger.present["secret s2"] = true
			case strings.Contains(command, "service"):
				n.run("shoal service rm w2")
			case strings.Contains(command, "run"):
				n.ledger.present["container c2"], n.ledger.made["container c2"] = true, true
			}
			continue
		}
		if !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("%s: the reason is not told: %v", command, err)
		}
	}
	for _, part := range []func() error{n.containersRun, n.serviceWorks} {
		if err := part(); err != nil {
			t.Errorf("while the disk is full: %v", err)
		}
	}
	t.Logf("while the disk is full: %s; warnings: %s", n.starts(), n.complaints())
	_, err := n.machine.Try(t.Context(), patience, "systemctl restart shoal; for i in $(seq 40); do "+api("/_ping")+" && exit 0; sleep 1; done; exit 1")
	t.Logf("started again on the full disk: serves its API: %v; %s", err == nil, n.starts())
	n.run("rm /fill*; sync")
	whole := n.settled("all is well once there is room")
	n.run("shoal volume create --label n=v3 v3")
	n.ledger.present["volume v3"] = true
	n.run("shoal volume rm v3")
	n.ledger.present["volume v3"] = false
	t.Logf("full disk: all of it %v after it was freed; before %s, after %s", whole, before, n.starts())
}

// stepClock sets the machine's clock by an offset that date(1) understands, and looks whether the node goes on.
func (n *node) stepClock(offset string) {
	n.Helper()
	n.run(fmt.Sprintf("date -s '%s'", offset))
	<-time.After(10 * time.Second)
	err := n.works()
	if err == nil {
		_, err = n.machine.Try(n.Context(), patience, "shoal service update -d --label-add stepped=$(date +%s) web")
	}
	n.Logf("clock stepped by %s: works: %v (%v)", offset, err == nil, err)
	if err != nil {
		n.settled("the node works after the step of the clock by " + offset)
	}
}

// Steps of the clock cost neither tasks nor the node's place.
func clockSteps(t *testing.T, n *node) {
	ids := n.run("shoal ps -q --no-trunc | sort")
	for _, offset := range []string{"+1 hour", "-2 hours", "+1 hour", "+100 days", "-200 days", "+100 days"} {
		n.stepClock(offset)
	}
	if now := n.run("shoal ps -q --no-trunc | sort"); now != ids {
		t.Errorf("containers were replaced:\n%s\nnow\n%s", ids, now)
	}
}

// Whoever was off for 100 days comes back.
func longOff(t *testing.T, n *node) {
	n.run("date -s '+100 days'; hwclock -w 2>/dev/null; sync")
	n.machine.RTC = time.Now().AddDate(0, 0, 100)
	if err := n.machine.Cut(); err != nil {
		t.Fatal(err)
	}
	up := n.boot()
	t.Logf("the machine's clock: %s", n.run("date"))
	whole := n.settled("all is back after 100 days")
	t.Logf("100 days later: API after %v, all of it %v later", up, whole)
}

// A file system that the kernel makes read-only, as after an error of the disk, costs words, and nothing once it can be written again.
func readOnly(t *testing.T, n *node) {
	before := n.starts()
	n.run("sync; echo 1 >/proc/sys/kernel/sysrq; echo u >/proc/sysrq-trigger; for i in $(seq 50); do grep -q '^/dev/[^ ]* / ext4 ro' /proc/mounts && exit 0; sleep 0.2; done; grep ' / ' /proc/mounts; exit 1")
	for _, command := range []string{"shoal volume create v2", "shoal network create t-n2"} {
		out, err := n.machine.Try(t.Context(), patience, command)
		if err == nil || !strings.Contains(err.Error(), "read-only file system") {
			t.Errorf("%s: %s, %v", command, out, err)
		}
	}
	if _, err := n.machine.Try(t.Context(), patience, "shoal ps && shoal volume ls && curl -sf -o /dev/null http://"+Address+":8080/"); err != nil {
		t.Errorf("what needs no writing: %v", err)
	}
	t.Logf("while it is read-only: before %s, now %s; warnings: %s", before, n.starts(), n.complaints())
	if err := n.machine.Cut(); err != nil {
		t.Fatal(err)
	}
	up := n.boot()
	whole := n.settled("all is back after the file system was read-only")
	t.Logf("read-only: API after %v, all of it %v later", up, whole)
}
