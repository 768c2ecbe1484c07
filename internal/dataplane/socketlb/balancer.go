// Package socketlb balances containers' TCP connections when they are made: eBPF programs on the node's cgroup connect a socket that
// connects to a virtual address to a backend, so that no packet need be translated. It writes the programs and their maps, which are not
// pinned: they go with the process. It is an accelerator. Without it, and for all that it does not know, the rules of package vip do the same.
package socketlb

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
)

const (
	maxServices = 1 << 18
	maxBackends = 1 << 20
	// maxPeers is for how many open connections getpeername(2) gives the virtual address.
	maxPeers = 1 << 14
)

// Balancer is the programs and maps of one node, shared by all its sandboxes. A sandbox is known by its namespace's cookie.
type Balancer struct {
	services, backends, peers *ebpf.Map
	links                     []link.Link

	mu        sync.Mutex          // guards sandboxes
	sandboxes map[string]*sandbox // by namespace name
}

// sandbox is what the maps have for a sandbox.
type sandbox struct {
	cookie   uint64
	services map[netip.Addr]service
}

// service is what the maps have for a virtual address of a sandbox. Each new list of backends has a generation of its own, so that a program
// never finds part of one list and part of another.
type service struct {
	generation uint32
	backends   []netip.Addr
}

// Open attaches the programs to the cgroup, a path below the root of the unified hierarchy, which is made if there is none. It fails where the
// kernel lacks what it needs (Linux 5.15), or no unified hierarchy is mounted.
func Open(cgroup string) (*Balancer, error) {
	path, err := unifiedPath(cgroup)
	if err != nil {
		return nil, err
	}
	b := &Balancer{sandboxes: map[string]*sandbox{}}
	if err := b.open(path); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Balancer) open(path string) error {
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&b.services, ebpf.MapSpec{Name: "shoal_services", Type: ebpf.Hash, KeySize: 24, ValueSize: 16, MaxEntries: maxServices, Flags: unix.BPF_F_NO_PREALLOC}},
		{&b.backends, ebpf.MapSpec{Name: "shoal_backends", Type: ebpf.Hash, KeySize: 32, ValueSize: 16, MaxEntries: maxBackends, Flags: unix.BPF_F_NO_PREALLOC}},
		{&b.peers, ebpf.MapSpec{Name: "shoal_peers", Type: ebpf.LRUHash, KeySize: 8, ValueSize: 32, MaxEntries: maxPeers}},
	} {
		made, err := ebpf.NewMap(&m.spec)
		if err != nil {
			return fmt.Errorf("create %s: %w", m.spec.Name, err)
		}
		*m.to = made
	}
	var specs []*ebpf.ProgramSpec
	for _, a := range sockAddrs() {
		specs = append(specs, a.connectProgram(b.services, b.backends, b.peers), a.peerProgram(b.peers))
	}
	for _, spec := range specs {
		program, err := ebpf.NewProgram(spec)
		if err != nil {
			return fmt.Errorf("load %s: %w", spec.Name, err)
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: path, Attach: spec.AttachType, Program: program})
		if err := errors.Join(err, program.Close()); err != nil { // the link holds the program
			return fmt.Errorf("attach %s to %s: %w", spec.Name, path, err)
		}
		b.links = append(b.links, l)
	}
	return nil
}

// unifiedPath is the cgroup's directory in the unified hierarchy, wherever that is.
func unifiedPath(cgroup string) (string, error) {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			path := filepath.Join(root, cgroup)
			if err := os.MkdirAll(path, 0o755); err != nil {
				return "", fmt.Errorf("make cgroup: %w", err)
			}
			return path, nil
		}
	}
	return "", errors.New("no unified cgroup hierarchy is mounted")
}

// Close detaches the programs: from then on the rules balance alone.
func (b *Balancer) Close() error {
	var errs []error
	for _, l := range b.links {
		errs = append(errs, l.Close())
	}
	for _, m := range []*ebpf.Map{b.services, b.backends, b.peers} {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Set makes the sandbox's virtual addresses lead to these backends and no others, whatever they led to before. cookie is its namespace's. Services
// without backends are left to the rules, which refuse. When it returns, no new connection goes to a backend that was removed.
func (b *Balancer) Set(name string, cookie uint64, services []config.ServiceChange, seed uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if before := b.sandboxes[name]; before != nil {
		for vip := range before.services {
			if err := b.replaceLocked(before, vip, nil, seed); err != nil {
				return err
			}
		}
	}
	b.sandboxes[name] = &sandbox{cookie: cookie, services: map[netip.Addr]service{}}
	return b.changeLocked(name, services, seed)
}

// Change makes the virtual addresses of a sandbox that was Set follow the changes.
func (b *Balancer) Change(name string, services []config.ServiceChange, seed uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changeLocked(name, services, seed)
}

func (b *Balancer) changeLocked(name string, services []config.ServiceChange, seed uint32) error {
	sandbox := b.sandboxes[name]
	for _, c := range services {
		var backends []netip.Addr
		if c.Has {
			backends = c.New.Backends
		}
		if err := b.replaceLocked(sandbox, c.Key, backends, seed); err != nil {
			return err
		}
	}
	return nil
}

// replaceLocked makes one virtual address lead to the backends.
func (b *Balancer) replaceLocked(s *sandbox, vip netip.Addr, backends []netip.Addr, seed uint32) error {
	before, had := s.services[vip]
	switch {
	case len(backends) == 0 && !had:
		return nil
	case len(backends) == 0:
		delete(s.services, vip)
		return b.removeService(s.cookie, vip, before)
	}
	after := service{before.generation + 1, backends}
	if err := b.putService(s.cookie, vip, after, seed); err != nil {
		return err
	}
	s.services[vip] = after
	return b.removeBackends(s.cookie, vip, before)
}

// putService writes the backends first, then puts them into force at once.
func (b *Balancer) putService(cookie uint64, vip netip.Addr, s service, seed uint32) error {
	for i, addr := range s.backends {
		key := backendKey{Sandbox: cookie, VIP: vip.As16(), Generation: s.generation, Slot: uint32(i)}
		if err := b.backends.Put(key, addr.As16()); err != nil {
			return fmt.Errorf("balance sockets to %s: %w", addr, err)
		}
	}
	key := serviceKey{Sandbox: cookie, VIP: vip.As16()}
	value := serviceValue{Count: uint32(len(s.backends)), Generation: s.generation, Next: seed % uint32(len(s.backends))}
	if err := b.services.Put(key, value); err != nil {
		return fmt.Errorf("balance sockets of %s: %w", vip, err)
	}
	return nil
}

func (b *Balancer) removeService(cookie uint64, vip netip.Addr, s service) error {
	if err := b.services.Delete(serviceKey{Sandbox: cookie, VIP: vip.As16()}); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("stop balancing sockets of %s: %w", vip, err)
	}
	return b.removeBackends(cookie, vip, s)
}

func (b *Balancer) removeBackends(cookie uint64, vip netip.Addr, s service) error {
	for i := range s.backends {
		key := backendKey{Sandbox: cookie, VIP: vip.As16(), Generation: s.generation, Slot: uint32(i)}
		if err := b.backends.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove backends of %s: %w", vip, err)
		}
	}
	return nil
}

// Keep removes all sandboxes but these.
func (b *Balancer) Keep(sandboxes map[string]*config.Sandbox) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for name, s := range b.sandboxes {
		if sandboxes[name] != nil {
			continue
		}
		for vip, was := range s.services {
			errs = append(errs, b.removeService(s.cookie, vip, was))
		}
		delete(b.sandboxes, name)
	}
	return errors.Join(errs...)
}

// Len counts what the kernel's maps hold: virtual addresses, and backends of all of them.
func (b *Balancer) Len() (services, backends int, err error) {
	var service serviceKey
	var value serviceValue
	all := b.services.Iterate()
	for all.Next(&service, &value) {
		services++
	}
	var backend backendKey
	var addr [16]byte
	of := b.backends.Iterate()
	for of.Next(&backend, &addr) {
		backends++
	}
	return services, backends, errors.Join(all.Err(), of.Err())
}

// NamespaceCookie is the kernel's number for the network namespace that the calling thread is in (SO_NETNS_COOKIE).
func NamespaceCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return 0, fmt.Errorf("ask for the namespace's cookie: %w", err)
	}
	return cookie, nil
}
