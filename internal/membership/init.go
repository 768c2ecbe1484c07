package membership

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// InitRequest founds a cluster.
type InitRequest struct {
	ListenAddr      string
	AdvertiseAddr   string
	DataPathAddr    string
	DataPathPort    uint32
	DefaultAddrPool []netip.Prefix
	SubnetSize      uint32
	ForceNew        bool
	Availability    shoal.Availability
	Spec            shoal.ClusterSpec
}

// Init makes the node the first manager of a new cluster and gives its ID.
func (m *Membership) Init(ctx context.Context, req InitRequest) (shoal.NodeID, error) {
	if req.ForceNew && m.Info().State != "inactive" {
		return m.forceNew(ctx, req)
	}
	m.op.Lock()
	defer m.op.Unlock()
	if m.Info().State != "inactive" {
		return "", errSwarmExists
	}
	req.AdvertiseAddr = cmp.Or(req.AdvertiseAddr, m.cfg.DefaultAdvertiseAddr)
	state, err := newState(req.ListenAddr, req.AdvertiseAddr, req.DataPathAddr)
	if err != nil {
		return "", err
	}
	state.Managers = []string{state.NodeAddr()}
	if err := checkInit(&req); err != nil {
		return "", err
	}
	if err := m.openProbes(); err != nil {
		return "", err
	}
	f, err := m.newInitialState(req, state)
	if err == nil {
		err = m.saveIdentity(f.identity, state)
	}
	if err != nil {
		m.closeProbes()
		return "", err
	}
	if err := m.startFirstManager(ctx, f); err != nil {
		m.removeAll(ctx)
		return "", err
	}
	return f.node.ID, nil
}

func (m *Membership) startFirstManager(ctx context.Context, f *initialState) error {
	if err := m.startManagerAs(ctx, ManagerConfig{Found: true}); err != nil {
		return err
	}
	s, err := m.Store()
	if err != nil {
		return err
	}
	if _, err := s.Commit(ctx, f.changes()); err != nil {
		return fmt.Errorf("write the cluster's first objects: %w", err)
	}
	if err := m.startAgent(); err != nil {
		return err
	}
	return m.awaitSession(ctx)
}

// firstSessionTimeout bounds the wait of init and join for the node's first session.
const firstSessionTimeout = 20 * time.Second

// awaitSession waits until a manager has welcomed the node.
func (m *Membership) awaitSession(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstSessionTimeout)
	defer cancel()
	if _, err := m.Client(ctx); err != nil {
		return fmt.Errorf("open a session with a manager: %w", err)
	}
	return nil
}

// saveIdentity records the node's identity and state, on disk and in memory.
func (m *Membership) saveIdentity(identity *ca.Identity, state State) error {
	state.Interface = interfaceOf(state.AdvertiseAddr)
	if err := m.saveState(state); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.identity, m.state = identity, state
	return nil
}

// removeAll stops what belongs to the cluster and removes everything of it from the node: after leaving, or after an init or join
// that failed.
func (m *Membership) removeAll(ctx context.Context) {
	m.stop()
	m.closeProbes()
	m.mu.Lock()
	m.identity, m.state, m.failure, m.lastWelcome = nil, State{}, nil, nil
	m.lock, m.locked = nil, false
	m.mu.Unlock()
	if err := os.RemoveAll(m.cfg.Dir); err != nil {
		m.cfg.Log.Error("cluster state cannot be removed from disk; remove the directory by hand before the node joins again", "err", err)
	}
	if err := m.cfg.Host.Forget(context.WithoutCancel(ctx)); err != nil {
		m.cfg.Log.Error("containers and networks of the cluster cannot all be removed; a restart of the daemon removes the rest", "err", err)
	}
}

// initialState is the first objects of a new cluster and the identity of its first node.
type initialState struct {
	identity *ca.Identity
	cluster  *shoal.Cluster
	node     *shoal.Node
	ingress  *shoal.Network
}

func (f *initialState) changes() store.Changes {
	var changes store.Changes
	changes.Put(f.cluster)
	changes.Put(f.node)
	changes.Put(f.ingress)
	return changes
}

func (m *Membership) newInitialState(req InitRequest, state State) (*initialState, error) {
	root, err := ca.NewRoot()
	if err != nil {
		return nil, err
	}
	cluster, err := newCluster(req, root)
	if err != nil {
		return nil, err
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		return nil, err
	}
	id := shoal.NewID[shoal.NodeID]()
	cert, err := root.Sign(csr, id, cluster.ID, shoal.RoleManager, Expiry(cluster))
	if err != nil {
		return nil, err
	}
	identity, err := ca.SaveIdentity(m.certificates(), root.CertPEM, cert, key)
	if err != nil {
		return nil, err
	}
	peerURL, err := state.PeerURL()
	if err != nil {
		return nil, err
	}
	availability := req.Availability
	if availability == "" {
		availability = shoal.AvailabilityActive
	}
	return &initialState{
		identity: identity,
		cluster:  cluster,
		node: &shoal.Node{
			ID:          id,
			Spec:        shoal.NodeSpec{Role: shoal.RoleManager, Availability: availability},
			Role:        shoal.RoleManager,
			Description: shoal.NodeDescription{Hostname: m.cfg.Hostname},
			Status:      shoal.NodeStatus{State: shoal.NodeUnknown, Addr: state.AdvertiseAddr},
			DataAddr:    state.DataPathAddr,
			Manager:     &shoal.ManagerStatus{Addr: state.NodeAddr(), PeerURL: peerURL},
		},
		ingress: &shoal.Network{
			ID:   shoal.NewID[shoal.NetworkID](),
			Spec: shoal.NetworkSpec{Name: shoal.IngressName, Driver: shoal.DriverOverlay, Scope: shoal.ScopeSwarm, Ingress: true},
		},
	}, nil
}

func newCluster(req InitRequest, root *ca.Root) (*shoal.Cluster, error) {
	worker, err := ca.NewToken(root)
	if err != nil {
		return nil, err
	}
	manager, err := ca.NewToken(root)
	if err != nil {
		return nil, err
	}
	spec := req.Spec
	if spec.Name == "" {
		spec.Name = shoal.ClusterName
	}
	cluster := &shoal.Cluster{
		ID: shoal.NewID[shoal.ClusterID](), Spec: spec, RootCA: root.CertPEM, RootKey: root.KeyPEM,
		Tokens:          shoal.JoinTokens{Worker: worker, Manager: manager},
		DefaultAddrPool: req.DefaultAddrPool, SubnetSize: req.SubnetSize, DataPathPort: req.DataPathPort,
	}
	setTunnelSecret(cluster, time.Now())
	SetAutolock(cluster, false)
	return cluster, nil
}

const minCertExpiry = time.Hour

func checkInit(req *InitRequest) error {
	if req.Spec.CertExpiry == 0 {
		req.Spec.CertExpiry = shoal.DefaultCertExpiry
	}
	if req.Spec.HeartbeatPeriod == 0 {
		req.Spec.HeartbeatPeriod = shoal.DefaultHeartbeatPeriod
	}
	if err := CheckSpec(req.Spec); err != nil {
		return err
	}
	switch port := req.DataPathPort; {
	case port == 0:
		req.DataPathPort = shoal.DefaultDataPathPort
	case port < 1024 || port > 49151:
		return errdefs.ErrInvalidArgument.WithMessage("invalid DataPathPort: The datapath port number is not in valid range (1024 ~ 49151) or is 0 (use default port 4789)")
	}
	if req.SubnetSize == 0 {
		req.SubnetSize = 24
	}
	if len(req.DefaultAddrPool) == 0 {
		req.DefaultAddrPool = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), 8)}
	}
	for _, pool := range req.DefaultAddrPool {
		if int(req.SubnetSize) < pool.Bits() {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid CIDR: %q. Subnet size is too small for pool: %d", pool, req.SubnetSize))
		}
	}
	return nil
}

// CheckSpec refuses settings that the cluster cannot have.
func CheckSpec(spec shoal.ClusterSpec) error {
	if spec.CertExpiry != 0 && spec.CertExpiry < minCertExpiry {
		return shoal.InvalidArgument("minimum certificate expiry time is: %s", minCertExpiry)
	}
	if spec.HeartbeatPeriod < 0 {
		return shoal.InvalidArgument("heartbeat time period cannot be a negative duration")
	}
	if spec.Name != "" && spec.Name != shoal.ClusterName {
		return errdefs.ErrInvalidArgument.WithMessage(`swarm spec must be named "default"`)
	}
	return nil
}

func newState(listen, advertise, dataPath string) (State, error) {
	listenAddr, err := listenAddress(listen)
	if err != nil {
		return State{}, err
	}
	addr, err := advertiseAddress(advertise, listenAddr)
	if err != nil {
		return State{}, err
	}
	data, err := dataPathAddress(dataPath)
	if err != nil {
		return State{}, err
	}
	return State{AdvertiseAddr: addr.Addr(), ListenAddr: listenAddr, Port: strconv.Itoa(int(addr.Port())), DataPathAddr: data}, nil
}

func nextPort(host, port string) (string, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 65535 {
		return "", fmt.Errorf("no port after %q for the store", port)
	}
	return "https://" + net.JoinHostPort(host, strconv.FormatUint(n+1, 10)), nil
}
