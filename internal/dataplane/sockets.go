package dataplane

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
)

const (
	maxServices = 1 << 18
	maxBackends = 1 << 20
	// maxPeers is how many open connections getpeername(2) can be answered for.
	maxPeers = 1 << 14
)

// sockets balances the TCP connections of containers when they are made: a socket that connects to a virtual address is connected
// to a backend, and no packet need be translated. It is an accelerator: without it, and for all that it does not know, the
// sandboxes' rules do the same. The programs are attached to the node's own cgroup, and go with the process.
type sockets struct {
	services, backends, peers *ebpf.Map
	links                     []link.Link

	mu      sync.Mutex // guards held, cookies
	held    map[string]map[netip.Addr]balanced
	cookies map[string]uint64
}

// balanced is what the kernel was told of one virtual address in one sandbox.
type balanced struct {
	generation uint32
	backends   []netip.Addr
}

// openSockets attaches the programs to the cgroup, which is made if there is none. It fails where the kernel lacks what it needs.
func openSockets(cgroup string) (*sockets, error) {
	path, err := unifiedPath(cgroup)
	if err != nil {
		return nil, err
	}
	s := &sockets{held: map[string]map[netip.Addr]balanced{}, cookies: map[string]uint64{}}
	if err := s.open(path); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *sockets) open(path string) error {
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&s.services, ebpf.MapSpec{Name: "shoal_services", Type: ebpf.Hash, KeySize: 24, ValueSize: 16, MaxEntries: maxServices, Flags: unix.BPF_F_NO_PREALLOC}},
		{&s.backends, ebpf.MapSpec{Name: "shoal_backends", Type: ebpf.Hash, KeySize: 32, ValueSize: 16, MaxEntries: maxBackends, Flags: unix.BPF_F_NO_PREALLOC}},
		{&s.peers, ebpf.MapSpec{Name: "shoal_peers", Type: ebpf.LRUHash, KeySize: 8, ValueSize: 32, MaxEntries: maxPeers}},
	} {
		made, err := ebpf.NewMap(&m.spec)
		if err != nil {
			return fmt.Errorf("create %s: %w", m.spec.Name, err)
		}
		*m.to = made
	}
	var specs []*ebpf.ProgramSpec
	for _, a := range sockAddrs() {
		specs = append(specs, a.connectProgram(s.services, s.backends, s.peers), a.peerProgram(s.peers))
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
		s.links = append(s.links, l)
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

func (s *sockets) close() error {
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	for _, m := range []*ebpf.Map{s.services, s.backends, s.peers} {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// set makes the sandbox's virtual addresses lead to these backends and no others, and change brings it from one set to the next. Those
// without backends are left to the rules, which refuse. After it, no new connection goes to a backend that is no more.
func (s *sockets) set(name string, cookie uint64, services []serviceChange, seed uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[name] != nil {
		for vip := range s.held[name] {
			if err := s.placeLocked(name, vip, nil, seed); err != nil {
				return err
			}
		}
	}
	s.held[name], s.cookies[name] = map[netip.Addr]balanced{}, cookie
	return s.changeLocked(name, services, seed)
}

func (s *sockets) change(name string, services []serviceChange, seed uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changeLocked(name, services, seed)
}

func (s *sockets) changeLocked(name string, services []serviceChange, seed uint32) error {
	for _, c := range services {
		var backends []netip.Addr
		if c.Has {
			backends = c.New.Backends
		}
		if err := s.placeLocked(name, c.Key, backends, seed); err != nil {
			return err
		}
	}
	return nil
}

// placeLocked makes one virtual address lead to the backends.
func (s *sockets) placeLocked(name string, vip netip.Addr, backends []netip.Addr, seed uint32) error {
	held, cookie := s.held[name], s.cookies[name]
	was, had := held[vip]
	switch {
	case len(backends) == 0 && !had:
		return nil
	case len(backends) == 0:
		delete(held, vip)
		return s.remove(cookie, vip, was)
	}
	now := balanced{was.generation + 1, backends}
	if err := s.write(cookie, vip, now, seed); err != nil {
		return err
	}
	held[vip] = now
	return s.erase(cookie, vip, was)
}

// write makes the backends first, then puts them into force at once.
func (s *sockets) write(cookie uint64, vip netip.Addr, b balanced, seed uint32) error {
	for i, addr := range b.backends {
		key := backendKey{Sandbox: cookie, VIP: vip.As16(), Generation: b.generation, Slot: uint32(i)}
		if err := s.backends.Put(key, addr.As16()); err != nil {
			return fmt.Errorf("balance sockets to %s: %w", addr, err)
		}
	}
	key := serviceKey{Sandbox: cookie, VIP: vip.As16()}
	value := serviceValue{Count: uint32(len(b.backends)), Generation: b.generation, Next: seed % uint32(len(b.backends))}
	if err := s.services.Put(key, value); err != nil {
		return fmt.Errorf("balance sockets of %s: %w", vip, err)
	}
	return nil
}

func (s *sockets) remove(cookie uint64, vip netip.Addr, was balanced) error {
	if err := s.services.Delete(serviceKey{Sandbox: cookie, VIP: vip.As16()}); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("leave sockets of %s alone: %w", vip, err)
	}
	return s.erase(cookie, vip, was)
}

func (s *sockets) erase(cookie uint64, vip netip.Addr, was balanced) error {
	for i := range was.backends {
		key := backendKey{Sandbox: cookie, VIP: vip.As16(), Generation: was.generation, Slot: uint32(i)}
		if err := s.backends.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget backends of %s: %w", vip, err)
		}
	}
	return nil
}

// keep forgets all sandboxes but these.
func (s *sockets) keep(sandboxes map[string]*Sandbox) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name, held := range s.held {
		if sandboxes[name] != nil {
			continue
		}
		for vip, was := range held {
			errs = append(errs, s.remove(s.cookies[name], vip, was))
		}
		delete(s.held, name)
		delete(s.cookies, name)
	}
	return errors.Join(errs...)
}

// namespaceCookie is the kernel's number for the namespace that the calling thread is in.
func namespaceCookie() (uint64, error) {
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
