package vm

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Address is the machine's own, on its only network card.
const Address = "10.0.2.15"

// Machine is one machine. Only one test uses it at a time.
type Machine struct {
	// RTC is what the machine's clock shows when it is turned on; zero for the time.
	RTC time.Time

	base Base
	dir  string
	qemu *exec.Cmd
	done chan struct{} // closed when qemu has ended

	mu      sync.Mutex // guards what follows
	console net.Conn
	answers *bufio.Reader
	last    int
}

// NewMachine makes a machine with a disk of its own in dir, and does not start it.
func NewMachine(ctx context.Context, base Base, dir string) (*Machine, error) {
	m := &Machine{base: base, dir: dir}
	return m, base.newDisk(ctx, m.Disk())
}

// Disk is the file with the machine's disk.
func (m *Machine) Disk() string { return filepath.Join(m.dir, "disk.img") }

// BootLog is the file with what the machine has said on its first serial port.
func (m *Machine) BootLog() string { return filepath.Join(m.dir, "boot.log") }

// Told is the lines, complete ones only, that were written to the third serial port so far.
func (m *Machine) Told() ([]string, error) {
	text, err := os.ReadFile(m.told())
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, "\r")
	}
	return lines[:len(lines)-1], nil
}

func (m *Machine) told() string { return filepath.Join(m.dir, "told") }

// Start turns the machine on and returns once it takes commands.
func (m *Machine) Start(ctx context.Context) error {
	socket := filepath.Join(m.dir, "console")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// What the guest has flushed is in this machine's page cache, which outlives qemu: a kill is a loss of power.
	clock := "utc"
	if !m.RTC.IsZero() {
		clock = m.RTC.UTC().Format("2006-01-02T15:04:05")
	}
	m.qemu = exec.Command("nice", "-n", "19", "qemu-system-x86_64", "-rtc", "base="+clock, "-no-reboot", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "2G", "-display", "none", "-no-user-config", "-nodefaults",
		"-kernel", m.base.kernel(), "-initrd", m.base.initrd(), "-append", strings.Join(append(masked(), "root=/dev/vda", "rw", "console=ttyS0", "net.ifnames=0", "panic=-1", "quiet", "systemd.show_status=0"), " "),
		"-drive", "file="+m.Disk()+",format=raw,if=virtio,cache=unsafe", "-netdev", "user,id=n,restrict=on", "-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci",
		"-chardev", "file,id=c0,append=on,path="+m.BootLog(), "-serial", "chardev:c0",
		"-chardev", "socket,id=c1,server=on,wait=off,path="+socket, "-serial", "chardev:c1",
		"-chardev", "file,id=c2,append=on,path="+m.told(), "-serial", "chardev:c2") // #nosec G204 -- ours
	m.qemu.Stderr = os.Stderr
	if err := m.qemu.Start(); err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	m.done = make(chan struct{})
	go func() { _ = m.qemu.Wait(); close(m.done) }()
	return m.connect(ctx, socket)
}

// masked is the kernel's arguments by which units are left out that take long here and that no test needs.
func masked() []string {
	var args []string
	for _, unit := range []string{"nfs-server", "nfs-mountd", "nfs-idmapd", "nfsdcld", "nfs-blkmap", "rpcbind", "rpc-statd", "rpc-statd-notify", "systemd-binfmt", "systemd-update-utmp",
		"e2scrub_reap", "systemd-logind", "getty@tty1", "modprobe@fuse", "modprobe@drm", "modprobe@efi_pstore", "apt-daily", "fstrim"} {
		args = append(args, "systemd.mask="+unit+".service")
	}
	for _, unit := range []string{"apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer", "proc-sys-fs-binfmt_misc.automount", "proc-fs-nfsd.mount", "nfs-client.target"} {
		args = append(args, "systemd.mask="+unit)
	}
	return args
}

// connect opens the console and waits until the machine answers there.
func (m *Machine) connect(ctx context.Context, socket string) error {
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			m.mu.Lock()
			m.console, m.answers = conn, bufio.NewReader(conn)
			m.mu.Unlock()
			return m.awaitConsole(ctx)
		}
		if err := m.pause(ctx); err != nil {
			return fmt.Errorf("connect to the machine: %w", err)
		}
	}
}

// awaitConsole asks until there is an answer.
func (m *Machine) awaitConsole(ctx context.Context) error {
	// Before the machine listens, questions are lost. Once it does it may be slow, and must not be asked faster than it can answer.
	const longest = time.Minute
	for patience := 2 * time.Second; ; patience = min(2*patience, longest) {
		if _, err := m.Try(ctx, patience, "true"); err == nil {
			return nil
		}
		if err := m.pause(ctx); err != nil {
			return fmt.Errorf("the machine takes no commands: %w", err)
		}
	}
}

func (m *Machine) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-m.done:
		return errors.New("qemu has ended")
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}

// Cut turns the power off.
func (m *Machine) Cut() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.console != nil {
		_ = m.console.Close()
		m.console = nil
	}
	if m.qemu == nil {
		return nil
	}
	err := m.qemu.Process.Kill()
	<-m.done
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return err
}

// Run runs a shell command in the machine and returns its output. One that fails is an error with the output.
func (m *Machine) Run(ctx context.Context, command string) (string, error) {
	const patience = 5 * time.Minute
	return m.Try(ctx, patience, command)
}

// Try is Run with a limit.
func (m *Machine) Try(ctx context.Context, patience time.Duration, command string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.console == nil {
		return "", errors.New("the machine is off")
	}
	deadline := time.Now().Add(patience)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := m.console.SetDeadline(deadline); err != nil {
		return "", err
	}
	m.last++
	id := strconv.Itoa(m.last)
	if _, err := fmt.Fprintf(m.console, "%s %s\n", id, base64.StdEncoding.EncodeToString([]byte(command))); err != nil {
		return "", err
	}
	for {
		line, err := m.answers.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("%s: no answer: %w", command, err)
		}
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != id {
			continue // to a question that was given up
		}
		out, err := base64.StdEncoding.DecodeString(strings.Join(fields[2:], ""))
		text := strings.TrimSpace(string(out))
		if err == nil && fields[1] != "0" {
			err = fmt.Errorf("%s: exit code %s: %s", command, fields[1], text)
		}
		return text, err
	}
}
