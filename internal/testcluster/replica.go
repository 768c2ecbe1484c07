package testcluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/store"
)

// The bounds and times of the replicated log are those of store/etcd.
const (
	maxOps            = 16384
	maxLearners       = 8
	keptRevisions     = 20000
	heartbeat         = 100 * time.Millisecond
	electionTimeout   = 700 * time.Millisecond // drawn anew each time, up to twice as long
	proposalLimit     = 10 * time.Second
	retryPause        = 200 * time.Millisecond
	memberFile        = "member" // in the store's folder: a manager that loses it has lost its copy of the log
	memberFolderMode  = 0o700
	memberFileContent = 0o600
)

// replicatedLog is the one log of all managers' store members. It stands for raft: what is in it has been agreed on by a majority of the
// voters, and a member reads of it only what has reached it. Who can talk to whom is the network's to say.
type replicatedLog struct {
	net *network

	mu      sync.Mutex // guards all below and all seats
	random  *rand.Rand
	rev     uint64
	records map[string]store.Record
	history []revision
	forgot  uint64 // history begins after this revision
	seats   map[string]*seat
	leader  *seat // of the newest term; it leads as long as it has a majority
	term    uint64
	seatNo  uint64
}

// revision is one entry of the log.
type revision struct {
	rev     uint64
	records []store.Record
}

// seat is a member as the others know it, and its copy of the log. It outlives the process that holds it.
type seat struct {
	id      string
	name    string // empty until it has been started
	peerURL string
	host    netip.Addr
	learner bool
	removed bool
	applied uint64 // its copy of the log ends here
	holder  *replica

	follows   *seat     // whom it takes for the leader
	heard     time.Time // when it last heard of the leader, or as the leader of a majority
	patience  time.Duration
	committed chan struct{} // closed and replaced when applied grows, or follows changes
}

func newReplicatedLog(n *network, seed uint64) *replicatedLog {
	return &replicatedLog{
		net: n, records: map[string]store.Record{}, seats: map[string]*seat{},
		random: rand.New(rand.NewPCG(seed, seed)),
	}
}

func hostOf(peerURL string) (netip.Addr, error) {
	u, err := url.Parse(peerURL)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(u.Hostname())
}

func (l *replicatedLog) newSeatLocked(peerURL string, learner bool) (*seat, error) {
	host, err := hostOf(peerURL)
	if err != nil {
		return nil, err
	}
	l.seatNo++
	s := &seat{
		id: fmt.Sprintf("%x", l.seatNo), peerURL: peerURL, host: host, learner: learner,
		heard: time.Now(), committed: make(chan struct{}),
	}
	l.drawPatienceLocked(s)
	l.seats[s.id] = s
	return s, nil
}

func (l *replicatedLog) drawPatienceLocked(s *seat) {
	s.patience = electionTimeout + time.Duration(l.random.Int64N(int64(electionTimeout)))
}

// reachLocked tells whether two members, both running, can have a conversation.
func (l *replicatedLog) reachLocked(a, b *seat) bool {
	return a.holder != nil && b.holder != nil && (a == b || l.net.reach(a.host, b.host))
}

// majorityLocked tells whether a member can talk to a majority of the voters.
func (l *replicatedLog) majorityLocked(s *seat) bool {
	voters, reached := 0, 0
	for _, other := range l.seats {
		if other.learner {
			continue
		}
		voters++
		if l.reachLocked(s, other) {
			reached++
		}
	}
	return reached > voters/2
}

// leadsLocked tells whether a member is the leader and can have something agreed on.
func (l *replicatedLog) leadsLocked(s *seat) bool {
	return l.leader == s && s != nil && !s.removed && l.majorityLocked(s)
}

// connectedLocked tells whether what a member proposes reaches a leader that can have it agreed on.
func (l *replicatedLog) connectedLocked(s *seat) bool {
	return l.leader != nil && !s.removed && l.reachLocked(s, l.leader) && l.leadsLocked(l.leader)
}

// tick is a member's heartbeat: it follows the leader, gives up leadership without a majority, and stands for election.
func (l *replicatedLog) tick(s *seat, r *replica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.holder != r {
		return
	}
	if l.connectedLocked(s) {
		s.heard = time.Now()
		l.followLocked(s, l.leader)
		l.catchUpLocked(s)
		return
	}
	if time.Since(s.heard) < s.patience {
		return
	}
	l.drawPatienceLocked(s)
	l.followLocked(s, nil)
	if !s.learner && !s.removed && l.electableLocked(s) {
		l.electLocked(s)
	}
}

// electableLocked tells whether a majority of the voters can be reached and heeds no leader any more.
func (l *replicatedLog) electableLocked(candidate *seat) bool {
	voters, votes := 0, 0
	for _, s := range l.seats {
		if s.learner {
			continue
		}
		voters++
		heeds := s.follows != nil && time.Since(s.heard) < electionTimeout
		if s == candidate || l.reachLocked(candidate, s) && !heeds {
			votes++
		}
	}
	return votes > voters/2
}

func (l *replicatedLog) electLocked(s *seat) {
	l.term++
	l.leader = s
	s.heard = time.Now()
	l.followLocked(s, s)
	s.applied = l.rev // a majority has everything that was agreed on, and votes for no one who lacks it
	l.announceLocked()
}

// announceLocked brings the log to all who can be reached now.
func (l *replicatedLog) announceLocked() {
	for _, s := range l.seats {
		if l.connectedLocked(s) {
			s.heard = time.Now()
			l.followLocked(s, l.leader)
			l.catchUpLocked(s)
		}
	}
}

func (l *replicatedLog) followLocked(s, leader *seat) {
	if s.follows != leader {
		s.follows = leader
		s.wakeLocked()
	}
}

func (l *replicatedLog) catchUpLocked(s *seat) {
	if s.applied < l.rev {
		s.applied = l.rev
		s.wakeLocked()
	}
}

func (s *seat) wakeLocked() {
	close(s.committed)
	s.committed = make(chan struct{})
}

// proposeLocked carries out a transaction. The caller has made sure that it is agreed on.
func (l *replicatedLog) proposeLocked(fence uint64, ops []store.Op) (uint64, error) {
	if fence != 0 && l.records[store.EpochKey].Rev != fence {
		return 0, store.ErrFenced
	}
	for _, op := range ops {
		if op.If != store.AnyRevision && l.records[op.Key].Rev != op.If {
			return 0, &store.KeyConflict{Key: op.Key}
		}
	}
	l.rev++
	written := revision{rev: l.rev}
	for _, op := range ops {
		r := store.Record{Key: op.Key, Value: op.Value, Rev: l.rev}
		written.records = append(written.records, r)
		if op.Value == nil {
			delete(l.records, op.Key)
		} else {
			l.records[op.Key] = r
		}
	}
	l.history = append(l.history, written)
	if excess := len(l.history) - keptRevisions; excess > keptRevisions/2 {
		l.forgot = l.history[excess-1].rev
		l.history = slices.Clone(l.history[excess:])
	}
	time.AfterFunc(latency, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.announceLocked()
	})
	return l.rev, nil
}

// replica is a running store member: the process that holds a seat.
type replica struct {
	log  *replicatedLog
	seat *seat

	done chan struct{}
	stop func() // closes done

	mu     sync.Mutex // guards all below
	epoch  uint64
	leads  bool
	turned chan struct{} // closed and replaced when leadership changes
}

var errMemberStopped = errors.New("the store member has stopped")

// memberConfig is what a store member starts with.
type memberConfig struct {
	name    string // the node's ID
	dir     string // the store's folder
	peerURL string
	join    bool // a seat has been made for it
}

// start takes the seat that the store's folder tells of, the one that was made for the node, or founds the log.
func (l *replicatedLog) start(ctx context.Context, cfg memberConfig) (*replica, error) {
	l.mu.Lock()
	s, err := l.claimLocked(filepath.Join(cfg.dir, memberFile), cfg.peerURL, cfg.join)
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	r := l.holdLocked(s, cfg.name)
	l.mu.Unlock()
	if err := r.await(ctx, func() bool { return l.connectedLocked(s) && s.applied == l.rev }); err != nil {
		r.Close()
		return nil, fmt.Errorf("start the store member: %w", err)
	}
	return r, nil
}

// claimLocked finds the seat of a manager that starts.
func (l *replicatedLog) claimLocked(file, peerURL string, join bool) (*seat, error) {
	if join {
		for _, s := range l.seats {
			if s.peerURL == peerURL && s.name == "" {
				return s, keepSeat(file, s.id)
			}
		}
		return nil, errors.New("no seat has been made for this store member")
	}
	id, err := os.ReadFile(file)
	if err == nil {
		s := l.seats[string(id)]
		if s == nil {
			return nil, errors.New("the store member has been removed")
		}
		return s, nil
	}
	if len(l.seats) > 0 {
		return nil, errors.New("there is a cluster already, and a test has just one")
	}
	s, err := l.newSeatLocked(peerURL, false)
	if err != nil {
		return nil, err
	}
	return s, keepSeat(file, s.id)
}

func keepSeat(file, id string) error {
	if err := os.MkdirAll(filepath.Dir(file), memberFolderMode); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(id), memberFileContent)
}

func (l *replicatedLog) holdLocked(s *seat, name string) *replica {
	r := &replica{log: l, seat: s, done: make(chan struct{}), turned: make(chan struct{})}
	r.stop = sync.OnceFunc(func() { close(r.done) })
	s.name, s.holder, s.heard, s.follows = name, r, time.Now(), nil
	if len(l.seats) == 1 {
		l.electLocked(s) // nobody else is waited for
	}
	go r.beat()
	return r
}

// beat ticks until the replica stops.
func (r *replica) beat() {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		r.log.tick(r.seat, r)
		if r.expelled() {
			r.Close()
		}
		select {
		case <-r.done:
			return
		case <-ticker.C:
		}
	}
}

// expelled tells whether the member knows that the others have taken it out.
func (r *replica) expelled() bool {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.seat.removed && r.seat.holder == r && l.leader != nil && l.reachLocked(r.seat, l.leader)
}

// await waits until a condition on the log holds, as seen from this member.
func (r *replica) await(ctx context.Context, holds func() bool) error {
	const look = 10 * time.Millisecond
	for {
		r.log.mu.Lock()
		ok := r.seat.holder == r && holds()
		changed := r.seat.committed
		r.log.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-r.done:
			return errMemberStopped
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(look):
		}
	}
}

// ask waits for a leader that answers and then calls do with the log locked; as with etcd, that may take until ctx ends.
func (r *replica) ask(ctx context.Context, do func() error) error {
	for {
		if err := r.await(ctx, func() bool { return r.log.connectedLocked(r.seat) }); err != nil {
			return err
		}
		if err := r.travel(ctx); err != nil {
			return err
		}
		l := r.log
		l.mu.Lock()
		if r.seat.holder == r && l.connectedLocked(r.seat) {
			err := do()
			l.mu.Unlock()
			return err
		}
		l.mu.Unlock()
	}
}

// travel takes as long as a message and its answer.
func (r *replica) travel(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		return errMemberStopped
	case <-time.After(2 * latency):
		return nil
	}
}

// Load implements store.Backend.
func (r *replica) Load(ctx context.Context) (all []store.Record, rev uint64, err error) {
	err = r.ask(ctx, func() error {
		r.log.catchUpLocked(r.seat)
		for _, record := range r.log.records {
			if strings.HasPrefix(record.Key, store.Prefix) {
				all = append(all, record)
			}
		}
		rev = r.log.rev
		return nil
	})
	return all, rev, err
}

// Txn implements store.Backend. A write whose outcome does not come back in time may have been carried out all the same.
func (r *replica) Txn(ctx context.Context, fence uint64, ops []store.Op) (uint64, error) {
	if len(ops) > maxOps {
		return 0, fmt.Errorf("transaction of %d operations is larger than %d", len(ops), maxOps)
	}
	bounded, cancel := context.WithTimeout(ctx, proposalLimit)
	defer cancel()
	var rev uint64
	err := r.ask(bounded, func() (err error) {
		rev, err = r.log.proposeLocked(fence, ops)
		return err
	})
	if err == nil {
		err = r.await(bounded, func() bool { return r.seat.applied >= rev })
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return 0, store.ErrNoLeader
	}
	return rev, err
}

// Watch implements store.Backend.
func (r *replica) Watch(ctx context.Context, after uint64, each func(uint64, []store.Record)) error {
	l := r.log
	for {
		l.mu.Lock()
		if after < l.forgot {
			l.mu.Unlock()
			return store.ErrCompacted
		}
		var news []revision
		if r.seat.applied > after {
			news = l.history[after-l.forgot : r.seat.applied-l.forgot]
		}
		changed := r.seat.committed
		l.mu.Unlock()
		for _, n := range news {
			each(n.rev, n.records)
			after = n.rev
		}
		if len(news) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return errMemberStopped
		case <-changed:
		}
	}
}

// ID implements swarm.Member.
func (r *replica) ID() string { return r.seat.id }

// LeaderID implements swarm.Member.
func (r *replica) LeaderID() string {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if r.seat.follows == nil {
		return "0"
	}
	return r.seat.follows.id
}

// Leader implements swarm.Member.
func (r *replica) Leader() (epoch uint64, leads bool, turned <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch, r.leads, r.turned
}

// Run implements swarm.Member: it writes the epoch key each time this member comes to lead.
func (r *replica) Run(ctx context.Context) error {
	defer r.turn(0, false)
	for {
		r.log.mu.Lock()
		elected, changed := r.seat.follows == r.seat, r.seat.committed
		r.log.mu.Unlock()
		_, leads, _ := r.Leader()
		var again <-chan time.Time
		switch {
		case elected && !leads:
			if epoch, err := r.begin(ctx); err == nil {
				r.turn(epoch, true)
			} else {
				again = time.After(retryPause)
			}
		case !elected && leads:
			r.turn(0, false)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return errMemberStopped
		case <-changed:
		case <-again:
		}
	}
}

func (r *replica) begin(ctx context.Context) (uint64, error) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return r.Txn(ctx, 0, []store.Op{{Key: store.EpochKey, Value: []byte(r.seat.id), If: store.AnyRevision}})
}

func (r *replica) turn(epoch uint64, leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leads == leads && r.epoch == epoch {
		return
	}
	r.epoch, r.leads = epoch, leads
	close(r.turned)
	r.turned = make(chan struct{})
}

// Resign implements swarm.Member.
func (r *replica) Resign() error {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leader != r.seat || len(l.seats) == 1 {
		return nil
	}
	for _, id := range l.idsLocked() {
		if s := l.seats[id]; s != r.seat && !s.learner && l.reachLocked(r.seat, s) && l.majorityLocked(s) {
			l.electLocked(s)
			return nil
		}
	}
	return errors.New("hand over leadership: no other member can take it")
}

// idsLocked is the seats in the order in which they were made.
func (l *replicatedLog) idsLocked() []string {
	ids := make([]string, 0, len(l.seats))
	for n := uint64(1); n <= l.seatNo; n++ {
		if id := fmt.Sprintf("%x", n); l.seats[id] != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// Learner implements swarm.Member.
func (r *replica) Learner() bool {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.seat.learner || r.seat.removed
}

// Members implements swarm.Member.
func (r *replica) Members(context.Context) ([]swarm.MemberInfo, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	var all []swarm.MemberInfo
	for _, id := range r.log.idsLocked() {
		s := r.log.seats[id]
		all = append(all, swarm.MemberInfo{ID: s.id, Name: s.name, PeerURL: s.peerURL, Learner: s.learner})
	}
	return all, nil
}

// Add implements swarm.Member.
func (r *replica) Add(ctx context.Context, name, peerURL string) (map[string]string, error) {
	initial := map[string]string{name: peerURL}
	return initial, r.ask(ctx, func() error {
		learners, known := 0, false
		for _, s := range r.log.seats {
			if s.name != "" {
				initial[s.name] = s.peerURL
			}
			known = known || s.peerURL == peerURL
			if s.learner {
				learners++
			}
		}
		if known {
			return nil
		}
		if learners == maxLearners {
			return errors.New("add a store member: too many learners")
		}
		_, err := r.log.newSeatLocked(peerURL, true)
		return err
	})
}

// Promote implements swarm.Member.
func (r *replica) Promote(ctx context.Context, id string) error {
	for {
		ready := false
		err := r.ask(ctx, func() error {
			s := r.log.seats[id]
			if s == nil {
				return errors.New("promote a store member: it is none")
			}
			if ready = r.log.connectedLocked(s) && s.name != ""; ready {
				s.learner = false
			}
			return nil
		})
		if err != nil || ready {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

// Remove implements swarm.Member.
func (r *replica) Remove(ctx context.Context, id string) error {
	return r.ask(ctx, func() error {
		s := r.log.seats[id]
		if s == nil {
			return nil
		}
		delete(r.log.seats, id)
		s.removed = true
		s.wakeLocked()
		if r.log.leader == s {
			r.log.leader = nil // the others elect another
		}
		return nil
	})
}

// Done implements swarm.Member.
func (r *replica) Done() <-chan struct{} { return r.done }

// die is the end of the process, of which the process itself is not told: nothing it asks for is answered any more.
func (r *replica) die() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if r.seat.holder == r {
		r.seat.holder, r.seat.follows = nil, nil
	}
}

// Close implements swarm.Member. Without its process the seat takes no part in anything.
func (r *replica) Close() {
	r.die()
	r.stop()
}
