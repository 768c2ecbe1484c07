package membership

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Admission answers nodes that want to join, renew or leave. It runs on every manager.
type Admission struct {
	Log   *slog.Logger
	Store *store.Store
	// Identity is this manager's, by which external certificate authorities know it.
	Identity *ca.Identity
	// Members is the store's own membership.
	Members Members
}

// Members adds managers to the replicated store and removes them.
type Members interface {
	// Add makes room for a new member and gives all members' peer URLs, by node. The member has no vote until it has caught up.
	Add(ctx context.Context, node shoal.NodeID, peerURL string) (map[shoal.NodeID]string, error)
	// Remove takes a node's member out. A node that is no member is removed already.
	Remove(ctx context.Context, node shoal.NodeID) error
	// List gives all members, RemoveMember takes one out, and Promote gives a learner its vote.
	List(ctx context.Context) ([]Member, error)
	RemoveMember(ctx context.Context, id string) error
	Promote(ctx context.Context, id string) error
	// Key seals the secrets in the store.
	Key() []byte
}

// Member is one member of the replicated store.
type Member struct {
	ID      string
	PeerURL string
	Learner bool // has no vote yet
	Started bool
}

// errBadJoinToken is Docker's answer to a token that the cluster does not know.
var errBadJoinToken = shoal.InvalidArgument("A valid join token is necessary to join this cluster")

// RootCA hands out the root certificate.
func (a *Admission) RootCA(context.Context, *rpc.RootCARequest) (*rpc.RootCAReply, error) {
	cluster := a.Store.View().Cluster()
	if cluster == nil {
		return nil, shoal.RefusalWithCode("Unavailable", "the cluster is not ready")
	}
	return &rpc.RootCAReply{Cert: cluster.RootCA}, nil
}

// Join admits a node, in the role that its token grants.
func (a *Admission) Join(ctx context.Context, req *rpc.JoinRequest) (*rpc.CertificateReply, error) {
	view := a.Store.View()
	cluster := view.Cluster()
	if cluster == nil {
		return nil, shoal.RefusalWithCode("Unavailable", "the cluster is not ready")
	}
	var role shoal.NodeRole
	switch {
	case ca.SameToken(req.Token, cluster.Tokens.Worker):
		role = shoal.RoleWorker
	case ca.SameToken(req.Token, cluster.Tokens.Manager):
		role = shoal.RoleManager
	default:
		return nil, errBadJoinToken
	}
	availability := req.Availability
	if availability == "" {
		availability = shoal.AvailabilityActive
	}
	addr := rpc.CallerOf(ctx).Addr
	if req.AdvertiseAddr.IsValid() {
		addr = req.AdvertiseAddr
	}
	node := &shoal.Node{
		ID:          shoal.NewID[shoal.NodeID](),
		Spec:        shoal.NodeSpec{Role: role, Availability: availability},
		Role:        role,
		Description: shoal.NodeDescription{Hostname: req.Hostname},
		Status:      shoal.NodeStatus{State: shoal.NodeUnknown, Addr: addr},
		DataAddr:    req.DataAddr,
	}
	reply, err := a.certify(ctx, view, node.ID, role, req.CSR)
	if err != nil {
		return nil, err
	}
	var changes store.Changes
	changes.Put(node)
	if _, err := a.Store.Commit(ctx, changes); err != nil {
		return nil, err
	}
	a.Log.Info("node joins", "node", node.ID, "role", role, "addr", addr)
	reply.Addr = addr
	return reply, nil
}

func (a *Admission) certify(ctx context.Context, view store.View, node shoal.NodeID, role shoal.NodeRole, csr []byte) (*rpc.CertificateReply, error) {
	cluster := view.Cluster()
	cert, err := sign(ctx, a.Identity, cluster, csr, node, role)
	if err != nil {
		return nil, err
	}
	return &rpc.CertificateReply{
		NodeID: node, ClusterID: cluster.ID, Role: role, Cert: slices.Concat(cert, cluster.Intermediates), Root: trusted(cluster), Managers: Managers(view),
	}, nil
}

// Expiry is how long node certificates are valid.
func Expiry(c *shoal.Cluster) time.Duration {
	if c.Spec.CertExpiry > 0 {
		return c.Spec.CertExpiry
	}
	return shoal.DefaultCertExpiry
}

// Managers lists where the node protocol is served: the leader first, then those believed to be up, then the others.
func Managers(view store.View) []string {
	var leader, up, down []string
	for _, n := range view.Nodes() {
		switch {
		case n.Manager == nil:
		case n.Manager.MemberID != "" && n.Manager.MemberID == view.Leader():
			leader = append(leader, n.Manager.Addr)
		case n.Ready():
			up = append(up, n.Manager.Addr)
		default:
			down = append(down, n.Manager.Addr)
		}
	}
	slices.Sort(up)
	slices.Sort(down)
	return slices.Concat(leader, up, down)
}

// Renew gives a node a new certificate in the role that its spec now says.
func (a *Admission) Renew(ctx context.Context, req *rpc.RenewRequest) (*rpc.CertificateReply, error) {
	view := a.Store.View()
	node := view.Node(rpc.CallerOf(ctx).NodeID)
	if node == nil {
		return nil, shoal.NotFound("node %s is not part of this cluster", rpc.CallerOf(ctx).NodeID)
	}
	return a.renew(ctx, view, node, req.CSR)
}

// RenewExpired gives a node whose certificate has expired a new one, if it proves that it has the key of the old one and is still part of the cluster.
func (a *Admission) RenewExpired(ctx context.Context, req *rpc.RenewExpiredRequest) (*rpc.CertificateReply, error) {
	view := a.Store.View()
	cluster := view.Cluster()
	if cluster == nil {
		return nil, shoal.RefusalWithCode("Unavailable", "the cluster is not ready")
	}
	root, err := ca.ParseRoot(trusted(cluster), nil)
	if err != nil {
		return nil, err
	}
	cert, err := root.CheckProof(req.Proof, req.CSR)
	if err != nil {
		return nil, err
	}
	node := view.Node(shoal.NodeID(cert.Subject.CommonName))
	if node == nil || !slices.Contains(cert.Subject.Organization, string(cluster.ID)) {
		return nil, shoal.NotFound("node %s is not part of this cluster", cert.Subject.CommonName)
	}
	a.Log.Info("a node whose certificate has expired gets a new one", "node", node.ID, "expired", cert.NotAfter)
	return a.renew(ctx, view, node, req.CSR)
}

// renew certifies a node in the role that its spec now says.
func (a *Admission) renew(ctx context.Context, view store.View, node *shoal.Node, csr []byte) (*rpc.CertificateReply, error) {
	role := node.Spec.Role
	reply, err := a.certify(ctx, view, node.ID, role, csr)
	if err != nil || node.Role == role {
		return reply, err
	}
	return reply, a.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if node := view.Node(node.ID); node != nil {
			n := *node
			n.Role = role
			changes.Put(&n)
		}
		return changes, nil
	})
}

// JoinMember makes a manager a member of the store.
func (a *Admission) JoinMember(ctx context.Context, req *rpc.MemberRequest) (*rpc.MemberReply, error) {
	caller := rpc.CallerOf(ctx)
	if caller.Role != shoal.RoleManager {
		return nil, shoal.PermissionDenied("node %s is not a manager", caller.NodeID)
	}
	if err := a.Members.Remove(ctx, caller.NodeID); err != nil {
		return nil, err // what is left of an earlier time as a manager: its data is gone
	}
	err := a.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		node := view.Node(caller.NodeID)
		if node == nil {
			return changes, shoal.NotFound("node %s is not part of this cluster", caller.NodeID)
		}
		if node.Spec.Role != shoal.RoleManager {
			return changes, shoal.PermissionDenied("node %s is not to be a manager", caller.NodeID)
		}
		n := *node
		n.Manager = &shoal.ManagerStatus{Addr: req.Addr, PeerURL: req.PeerURL}
		changes.Put(&n)
		return changes, nil
	})
	if err != nil {
		return nil, err
	}
	members, err := a.Members.Add(ctx, caller.NodeID, req.PeerURL)
	if err != nil {
		return nil, err
	}
	return &rpc.MemberReply{PeerURLs: members, Key: a.Members.Key()}, nil
}

// Leave records that a node has gone of its own will: it is down at once, and no member any more.
func (a *Admission) Leave(ctx context.Context, _ *rpc.LeaveRequest) (*rpc.LeaveReply, error) {
	id := rpc.CallerOf(ctx).NodeID
	node := a.Store.View().Node(id)
	if node == nil {
		return &rpc.LeaveReply{}, nil
	}
	if node.Manager != nil {
		if err := a.Members.Remove(ctx, id); err != nil {
			return nil, err
		}
	}
	return &rpc.LeaveReply{}, a.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if node := view.Node(id); node != nil {
			n := *node
			n.Manager = nil
			n.Status = shoal.NodeStatus{State: shoal.NodeDown, Message: shoal.NodeHasLeft, Addr: n.Status.Addr}
			changes.Put(&n)
		}
		return changes, nil
	})
}
