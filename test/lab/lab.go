// Package lab builds a small data centre on one machine for tests, benchmarks and the demo: nodes that are network namespaces
// on a common bridge, each with its own daemon, data, cgroups and host name. It reads the built binary and the test images;
// it writes below one folder of its own and removes all it made.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Lab is the machines and the bridge between them.
type Lab struct {
	// Dir is where everything is stored; it is on a disk, because overlayfs does not work on every file system.
	Dir string
	// Binary is the path of the shoal program to run.
	Binary string
	name   string
	bridge netns.NsHandle // the namespace of the bridge
	nodes  []*Node
	hosts  []*Host
}

const bridgeName = "wire"

// New makes an empty lab below dir (a new temporary folder if empty). name tells labs on one machine apart; it must be short.
func New(name, dir, binary string) (*Lab, error) {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "shoal-"); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, Binary: binary, name: name}
	if err := shareNamespaces(); err != nil {
		return nil, fmt.Errorf("prepare named namespaces: %w", err)
	}
	var err error
	if l.bridge, err = newNamespace("shoal-" + name + "-wire"); err != nil {
		return nil, fmt.Errorf("make the bridge's namespace: %w", err)
	}
	h, err := netlink.NewHandleAt(l.bridge)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := h.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make the bridge: %w", err)
	}
	return l, h.LinkSetUp(bridge)
}

// Host is a machine of the lab. Without a daemon it is a client: see Node.
type Host struct {
	Name  string
	Addr  string
	Addr6 string
	lab   *Lab
	ns    netns.NsHandle
}

// Namespace is the host's network namespace as `nsenter --net=` takes it.
func (h *Host) Namespace() string { return namespacePath(h.lab.namespace(h.Name)) }

func (l *Lab) namespace(host string) string { return "shoal-" + l.name + "-" + host }
func namespacePath(name string) string      { return filepath.Join("/run/netns", name) }

// prefixLength is that of the lab's IPv4 subnet.
const prefixLength = 24

// AddHost adds a machine with the addresses 10.77.0.last and fd77::last.
func (l *Lab) AddHost(name string, last int) (*Host, error) {
	ns, err := newNamespace(l.namespace(name))
	if err != nil {
		return nil, fmt.Errorf("make the namespace of %s: %w", name, err)
	}
	h := &Host{Name: name, Addr: fmt.Sprintf("10.77.0.%d", last), Addr6: fmt.Sprintf("fd77::%d", last), lab: l, ns: ns}
	l.hosts = append(l.hosts, h)
	if err := h.plug(); err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, err)
	}
	return h, nil
}

// plug connects the host to the bridge: eth0 in the host, a port of the bridge at the other end of the veth pair.
func (h *Host) plug() error {
	sw, err := netlink.NewHandleAt(h.lab.bridge)
	if err != nil {
		return err
	}
	defer sw.Close()
	bridge, err := sw.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: h.Name, MasterIndex: bridge.Attrs().Index, Flags: net.FlagUp},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(h.ns)),
	}
	if err := sw.LinkAdd(port); err != nil {
		return err
	}
	if err := sw.LinkSetUp(port); err != nil {
		return err
	}
	in, err := netlink.NewHandleAt(h.ns)
	if err != nil {
		return err
	}
	defer in.Close()
	eth0, err := in.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", h.Addr, prefixLength))
	if err != nil {
		return err
	}
	if err := in.AddrAdd(eth0, addr); err != nil {
		return err
	}
	addr6, err := netlink.ParseAddr(h.Addr6 + "/64")
	if err != nil {
		return err
	}
	addr6.Flags = unix.IFA_F_NODAD                                                      // usable at once
	if err := in.AddrAdd(eth0, addr6); err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a kernel without IPv6
		return err
	}
	lo, err := in.LinkByName("lo")
	if err != nil {
		return err
	}
	return errors.Join(in.LinkSetUp(eth0), in.LinkSetUp(lo))
}

// Cut disconnects the host from all others: its port of the bridge goes down.
func (h *Host) Cut() error { return h.port(false) }

// Mend connects the host again.
func (h *Host) Mend() error { return h.port(true) }

func (h *Host) port(up bool) error {
	sw, err := netlink.NewHandleAt(h.lab.bridge)
	if err != nil {
		return err
	}
	defer sw.Close()
	link, err := sw.LinkByName(h.Name)
	if err != nil {
		return err
	}
	if up {
		return sw.LinkSetUp(link)
	}
	return sw.LinkSetDown(link)
}

// Dial connects from the host's namespace.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return h.dial(ctx, &net.Dialer{}, network, addr)
}

// DialFrom connects by TCP from a port of the host, also if that has a connection to another address.
func (h *Host) DialFrom(ctx context.Context, port int, addr string) (net.Conn, error) {
	return h.dial(ctx, &net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Control: reuseAddress}, "tcp", addr)
}

func (h *Host) dial(ctx context.Context, dialer *net.Dialer, network, addr string) (conn net.Conn, err error) {
	dialer.Timeout = 5 * time.Second
	err = within(h.ns, func() error {
		conn, err = dialer.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// reuseAddress lets a socket have a port that is in use by another one that lets it, too.
func reuseAddress(_, _ string, socket syscall.RawConn) error {
	var err error
	control := socket.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(control, err)
}

// Listen listens in the host's namespace.
func (h *Host) Listen(network, addr string) (net.Listener, error) {
	var listener net.Listener
	err := within(h.ns, func() (err error) {
		listener, err = net.Listen(network, addr)
		return err
	})
	return listener, err
}

// Command runs a program in the host's network namespace.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.Namespace(), "--", name}, args...)...)
}

// within runs do on a thread that is in a namespace. Sockets made there stay there.
func within(ns netns.NsHandle, do func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = own.Close() }()
	if err := netns.Set(ns); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = do()
	if netns.Set(own) == nil {
		runtime.UnlockOSThread() // a thread that cannot go back ends with its goroutine
	}
	return err
}

// shareNamespaces prepares the folder of named namespaces in the way of iproute2: as a shared mount of its own. Were it left to
// the first `ip netns add` of anybody on the machine, that would lay a mount over the folder and hide the lab's namespaces. It
// stays, as iproute2 leaves it.
func shareNamespaces() error {
	dir := namespacePath("")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err // it is a mount already, or cannot be one
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "")
}

// newNamespace makes a named namespace, as `ip netns add` does.
func newNamespace(name string) (netns.NsHandle, error) {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return netns.None(), err
	}
	defer func() { _ = own.Close() }()
	ns, err := netns.NewNamed(name)
	if netns.Set(own) == nil {
		runtime.UnlockOSThread()
	}
	return ns, err
}

// Nodes are the lab's nodes in the order they were added.
func (l *Lab) Nodes() []*Node { return l.nodes }

// Close stops every daemon and removes everything that the lab made, whatever state it is in.
func (l *Lab) Close() error {
	var errs []error
	var stopping sync.WaitGroup
	for _, n := range l.nodes {
		stopping.Go(func() { n.wipe() })
	}
	stopping.Wait()
	errs = append(errs, l.unmount())
	for _, h := range l.hosts {
		errs = append(errs, h.ns.Close(), netns.DeleteNamed(l.namespace(h.Name)))
	}
	errs = append(errs, l.bridge.Close(), netns.DeleteNamed("shoal-"+l.name+"-wire"))
	if os.Getenv("SHOAL_LAB_KEEP") == "" {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}

// Sweep removes what a lab of this name and folder left behind when it was killed.
func Sweep(name, dir string) error {
	l := &Lab{Dir: dir, name: name}
	left, err := filepath.Glob(namespacePath(l.namespace("*")))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range left {
		host := strings.TrimPrefix(filepath.Base(path), l.namespace(""))
		(&Node{Host: &Host{Name: host, lab: l}}).wipe()
	}
	errs = append(errs, l.unmount())
	for _, path := range left {
		errs = append(errs, netns.DeleteNamed(filepath.Base(path)))
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}

// unmount takes away every mount below the lab's folder, the newest first.
func (l *Lab) unmount() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if point := strings.ReplaceAll(fields[4], `\040`, " "); strings.HasPrefix(point, l.Dir+"/") {
			points = append(points, point)
		}
	}
	var errs []error
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}
