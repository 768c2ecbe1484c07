package testcluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

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

// reachLocked tells whether two members run and messages arrive in both directions between them.
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
