package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Address is what a machine has that is given no other, on its only network card.
const Address = "10.0.2.15"

// Config says what a machine is made of.
type Config struct {
	Base     Base
	Dir      string            // for its disk, its sockets and what it has said; required
	Programs map[string]string // more programs to install: the file here, by the path there
	Network  *Network          // its only network; none: one of its own, where port 8080 is forwarded to Machine.Published
	Place    int               // its place in the network, from 1 on
}

// Machine is one machine. Only one test uses it at a time.
type Machine struct {
	// RTC is what the machine's clock shows when it is turned on; zero for the time.
	RTC time.Time
	// Published is the address here behind which its port 8080 is, if it has a network of its own.
	Published string

	cfg     Config
	qemu    *exec.Cmd
	done    chan struct{} // closed when qemu has ended
	console console
}

// NewMachine makes a machine with a disk of its own, and does not start it.
func NewMachine(ctx context.Context, cfg Config) (*Machine, error) {
	m := &Machine{cfg: cfg}
	if cfg.Network == nil {
		// What is free now stays free for long: nobody else here asks for ports one after the other.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		m.Published = l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return m, cfg.Base.newDisk(ctx, m.Disk(), cfg.Programs)
}

// Disk is the file with the machine's disk.
func (m *Machine) Disk() string { return filepath.Join(m.cfg.Dir, "disk.img") }

// BootLog is the file with what the machine has said on its first serial port.
func (m *Machine) BootLog() string { return filepath.Join(m.cfg.Dir, "boot.log") }

// Address is the machine's address.
func (m *Machine) Address() string {
	if m.cfg.Network == nil {
		return Address
	}
	return "10.0.3." + strconv.Itoa(m.cfg.Place)
}

func (m *Machine) told() string { return filepath.Join(m.cfg.Dir, "told") }

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

// forgetHalfALine removes what the machine was about to tell when its power was cut.
func (m *Machine) forgetHalfALine() error {
	text, err := os.ReadFile(m.told())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Truncate(m.told(), int64(bytes.LastIndexByte(text, '\n')+1))
}

// Start turns the machine on and returns once it takes commands.
func (m *Machine) Start(ctx context.Context) error {
	if err := m.forgetHalfALine(); err != nil {
		return err
	}
	socket := filepath.Join(m.cfg.Dir, "console")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	m.qemu = exec.Command("qemu-system-x86_64", m.arguments(socket)...) // #nosec G204 -- ours
	m.qemu.Stderr = os.Stderr
	if err := m.qemu.Start(); err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	m.done = make(chan struct{})
	go func() { _ = m.qemu.Wait(); close(m.done) }()
	return m.console.connect(ctx, socket, m.done)
}

// arguments are qemu's.
func (m *Machine) arguments(socket string) []string {
	clock := "utc"
	if !m.RTC.IsZero() {
		clock = m.RTC.UTC().Format("2006-01-02T15:04:05")
	}
	const most = 2 // processors; fewer if the test has fewer (taskset)
	kernel := append(masked(), "root=/dev/vda", "rw", "console=ttyS0", "net.ifnames=0", "panic=-1", "quiet", "mitigations=off", "systemd.show_status=0",
		"systemd.hostname=vm"+strconv.Itoa(m.cfg.Place), "vm.address="+m.Address())
	return []string{"-rtc", "base=" + clock, "-no-reboot", "-accel", "tcg,thread=multi", "-smp", strconv.Itoa(min(most, runtime.NumCPU())), "-m", "2G",
		"-display", "none", "-no-user-config", "-nodefaults",
		"-kernel", m.cfg.Base.kernel(), "-initrd", m.cfg.Base.initrd(), "-append", strings.Join(kernel, " "),
		// What the guest has flushed is in this machine's page cache, which outlives qemu: a kill is a loss of power.
		"-drive", "file=" + m.Disk() + ",format=raw,if=virtio,cache=unsafe",
		"-netdev", m.network(), "-device", fmt.Sprintf("virtio-net-pci,netdev=n,mac=52:54:00:00:00:%02x", m.cfg.Place), "-device", "virtio-rng-pci",
		"-chardev", "file,id=c0,append=on,path=" + m.BootLog(), "-serial", "chardev:c0",
		"-chardev", "socket,id=c1,server=on,wait=off,path=" + socket, "-serial", "chardev:c1",
		"-chardev", "file,id=c2,append=on,path=" + m.told(), "-serial", "chardev:c2"}
}

// network is what the network card is plugged into.
func (m *Machine) network() string {
	if m.cfg.Network == nil {
		return "user,id=n,restrict=on,hostfwd=tcp:" + m.Published + "-" + Address + ":8080"
	}
	own, theirs := m.cfg.Network.plug(m.cfg.Place)
	return "dgram,id=n,local.type=unix,local.path=" + own + ",remote.type=unix,remote.path=" + theirs
}

// masked is the kernel's arguments by which units are left out that take long here and that no test needs.
func masked() []string {
	var args []string
	for _, unit := range []string{"nfs-server", "nfs-mountd", "nfs-idmapd", "nfsdcld", "nfs-blkmap", "rpcbind", "rpc-statd", "rpc-statd-notify", "systemd-binfmt", "systemd-update-utmp",
		"e2scrub_reap", "systemd-logind", "getty@tty1", "modprobe@fuse", "modprobe@drm", "modprobe@efi_pstore", "modprobe@dm_mod", "modprobe@loop", "modprobe@configfs",
		"apparmor", "apt-daily", "fstrim"} {
		args = append(args, "systemd.mask="+unit+".service")
	}
	for _, unit := range []string{"apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer", "proc-sys-fs-binfmt_misc.automount", "proc-fs-nfsd.mount", "nfs-client.target", "rpcbind.socket"} {
		args = append(args, "systemd.mask="+unit)
	}
	return args
}

// Cut turns the power off.
func (m *Machine) Cut() error {
	if m.qemu == nil {
		return nil
	}
	err := m.qemu.Process.Kill()
	<-m.done
	m.console.close()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return err
}

// AwaitEnd waits until the machine has turned itself off, as it does instead of starting anew.
func (m *Machine) AwaitEnd(ctx context.Context) error {
	select {
	case <-m.done:
		m.console.close()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the machine does not turn itself off: %w", ctx.Err())
	}
}

// Run runs a shell command in the machine and returns its output. One that fails is an error with the output.
func (m *Machine) Run(ctx context.Context, command string) (string, error) {
	const patience = 5 * time.Minute
	return m.console.run(ctx, patience, command)
}

// Try is Run with a limit.
func (m *Machine) Try(ctx context.Context, patience time.Duration, command string) (string, error) {
	return m.console.run(ctx, patience, command)
}
