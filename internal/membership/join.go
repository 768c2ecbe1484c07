package membership

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// JoinRequest joins a cluster.
type JoinRequest struct {
	ListenAddr    string
	AdvertiseAddr string
	DataPathAddr  string
	Remotes       []string
	Token         string
	Availability  shoal.Availability
}

// exchangeTimeout bounds each call to a manager, which may be unreachable.
const exchangeTimeout = 10 * time.Second

// Join makes the node part of the cluster that the token belongs to, in the role that the token grants.
func (m *Membership) Join(ctx context.Context, req JoinRequest) error {
	m.op.Lock()
	defer m.op.Unlock()
	if m.Info().State != "inactive" {
		return errSwarmExists
	}
	if len(req.Remotes) == 0 {
		return errdefs.ErrInvalidArgument.WithMessage("at least 1 RemoteAddr is required to join")
	}
	if req.Token == "" {
		return errBadJoinToken
	}
	token, err := ca.ParseToken(req.Token)
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(ca.ErrBadToken.Error())
	}
	listen, err := listenAddress(req.ListenAddr)
	if err != nil {
		return err
	}
	state := State{ListenAddr: listen, Port: strconv.Itoa(int(listen.Port()))}
	if state.DataPathAddr, err = dataPathAddress(req.DataPathAddr); err != nil {
		return err
	}
	if req.AdvertiseAddr = cmp.Or(req.AdvertiseAddr, m.cfg.DefaultAdvertiseAddr); req.AdvertiseAddr != "" {
		addr, err := advertiseAddress(req.AdvertiseAddr, listen)
		if err != nil {
			return err
		}
		state.AdvertiseAddr, state.Port = addr.Addr(), strconv.Itoa(int(addr.Port()))
	}
	if err := m.openProbes(); err != nil {
		return err
	}
	m.setPending(true)
	defer m.setPending(false)
	var joined error
	for _, remote := range req.Remotes {
		if joined = m.joinAt(ctx, rpc.WithPort(remote), token, req, state); joined == nil {
			return nil
		}
	}
	m.closeProbes()
	return joined
}

func (m *Membership) setPending(pending bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = pending
}

func (m *Membership) joinAt(ctx context.Context, remote string, token ca.Token, req JoinRequest, state State) error {
	exchange, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	root, err := m.fetchRoot(exchange, remote, token)
	if err != nil {
		return err
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		return err
	}
	var reply *rpc.CertificateReply
	err = m.dial(remote, ca.JoinTLS(root), func(c *rpc.Client) error {
		reply, err = c.Join(exchange, &rpc.JoinRequest{
			Token: req.Token, CSR: csr, Availability: req.Availability, Hostname: m.cfg.Hostname,
			AdvertiseAddr: state.AdvertiseAddr, DataAddr: state.DataPathAddr,
		})
		return err
	})
	if err != nil {
		return err
	}
	identity, err := ca.SaveIdentity(m.certificates(), reply.Root, reply.Cert, key)
	if err != nil {
		return err
	}
	state.Managers = reply.Managers
	if !slices.Contains(state.Managers, remote) {
		state.Managers = append(state.Managers, remote)
	}
	state.AdvertiseAddr = reply.Addr
	if err := m.saveIdentity(identity, state); err != nil {
		return err
	}
	if err := m.startParts(ctx, reply.Role); err != nil {
		m.removeAll(ctx)
		return err
	}
	return nil
}

// startParts starts what the node's role needs and waits for its first session.
func (m *Membership) startParts(ctx context.Context, role shoal.NodeRole) error {
	if role == shoal.RoleManager {
		if err := m.becomeMember(ctx, nil); err != nil {
			return err
		}
	}
	if err := m.startAgent(); err != nil {
		return err
	}
	return m.awaitSession(ctx)
}

// fetchRoot asks a manager for the root certificate and checks that it is the token's.
func (m *Membership) fetchRoot(ctx context.Context, remote string, token ca.Token) (*ca.Root, error) {
	var root *ca.Root
	return root, m.dial(remote, ca.JoinTLS(nil), func(c *rpc.Client) error {
		reply, err := c.RootCA(ctx)
		if err != nil {
			return err
		}
		if root, err = ca.ParseRoot(reply.Cert, nil); err != nil {
			return err
		}
		if root.Digest() != token.Digest {
			return fmt.Errorf("remote CA does not match fingerprint. Expected: %s", hex.EncodeToString(token.Digest[:]))
		}
		return nil
	})
}

// becomeMember makes this node, which has a manager's certificate, a member of the store. A copy of earlier times is deleted or, if it is damaged, set aside.
func (m *Membership) becomeMember(ctx context.Context, damage error) error {
	m.mu.Lock()
	state := m.state
	m.mu.Unlock()
	peerURL, err := state.PeerURL()
	if err != nil {
		return err
	}
	var reply *rpc.MemberReply
	err = m.askManagers(ctx, func(ctx context.Context, c *rpc.Client) error {
		var err error
		reply, err = c.JoinMember(ctx, &rpc.MemberRequest{Addr: state.NodeAddr(), PeerURL: peerURL})
		return err
	})
	if err != nil {
		return err
	}
	// Only now is it sure that the others have the state, and that this node's copy of earlier times is of no use.
	dir := filepath.Join(m.cfg.Dir, StoreDir)
	if damage == nil {
		m.removeStore(dir)
	} else if err := m.setAside(dir, damage); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = m.startManager(ctx, reply)
	if errors.Is(err, store.ErrRemoved) {
		m.removeStore(dir) // demoted meanwhile; what there is of the state does not even tell where the other members are
	}
	return err
}

// Leave takes the node out of its cluster and removes all that belonged to it. A manager leaves only with force.
func (m *Membership) Leave(ctx context.Context, force bool) error {
	if force {
		m.cancelResume()
	}
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	identity, manager := m.identity, m.manager
	m.mu.Unlock()
	if identity == nil && m.Info().State == "inactive" {
		return errNoSwarm
	}
	if !force && m.Info().State == "locked" {
		return errLockedLeaves
	}
	if manager != nil && !force {
		return leaveWarning(manager)
	}
	m.mu.Lock()
	m.lastWelcome = nil // nothing is to be settled any more
	m.mu.Unlock()
	if identity != nil {
		m.announceLeave(ctx, manager)
	}
	m.removeAll(ctx)
	return nil
}

// announceLeave tells the cluster, if it can be reached, that the node has left.
func (m *Membership) announceLeave(ctx context.Context, manager Manager) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if manager != nil {
		if len(Managers(manager.Store().View())) == 1 {
			return // there is nobody to tell
		}
		if err := manager.Resign(); err != nil {
			m.cfg.Log.Warn("leadership cannot be handed over before the node leaves; the others elect a leader once they miss it", "err", err)
		}
	}
	err := m.askManagers(ctx, func(ctx context.Context, c *rpc.Client) error { return c.Leave(ctx) })
	if err != nil {
		m.cfg.Log.Warn("no manager could be told that this node leaves; they show it as Down until it is removed with docker node rm", "err", err)
	}
}

// leaveWarning is what Docker tells a manager's user about the quorum.
func leaveWarning(manager Manager) error {
	view := manager.Store().View()
	managers, reachable := 0, 0
	for _, n := range view.Nodes() {
		if n.Manager != nil {
			managers++
			if n.Ready() {
				reachable++
			}
		}
	}
	if managers == 1 {
		return errLastLeaves
	}
	text := "You are attempting to leave the swarm on a node that is participating as a manager. "
	if reachable-1 <= managers/2 {
		text += fmt.Sprintf("Removing this node leaves %v managers out of %v. Without a Raft quorum your swarm will be inaccessible. ", managers-1, managers)
	}
	return errdefs.ErrUnavailable.WithMessage(text + "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.")
}

// removeStore deletes a former manager's copy of the state.
func (m *Membership) removeStore(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		m.cfg.Log.Error("cluster state of a former manager cannot be removed from disk", "err", err)
	}
}
