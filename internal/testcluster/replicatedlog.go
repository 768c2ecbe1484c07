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

// The times of the replicated log are those of store/etcd.
const (
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

	mu           sync.Mutex // guards all below and all members
	random       *rand.Rand
	rev          uint64
	records      map[string]store.Record
	history      []revision
	forgot       uint64 // history begins after this revision
	members      map[string]*logMember
	leader       *logMember // of the newest term; it leads as long as it has a majority
	term         uint64
	lastMemberNo uint64
	invariants   *invariants
}

// revision is one entry of the log.
type revision struct {
	rev     uint64
	records []store.Record
}

// logMember is a member as the others know it, and its copy of the log. It outlives the process that holds it.
type logMember struct {
	id      string
	name    string // empty until it has been started
	peerURL string
	host    netip.Addr
	learner bool
	removed bool
	applied uint64   // its copy of the log ends here
	holder  *replica // nil while no process runs for it

	follows         *logMember    // the leader, as far as it knows
	heard           time.Time     // when it last heard of the leader, or as the leader of a majority
	electionTimeout time.Duration // drawn anew for each election, as raft does
	committed       chan struct{} // closed and replaced when applied grows, or follows changes
}

func newReplicatedLog(n *network, seed uint64) *replicatedLog {
	return &replicatedLog{
		net: n, records: map[string]store.Record{}, members: map[string]*logMember{},
		random: rand.New(rand.NewPCG(seed, seed)), invariants: newInvariants(),
	}
}

func hostOf(peerURL string) (netip.Addr, error) {
	u, err := url.Parse(peerURL)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(u.Hostname())
}

func (l *replicatedLog) newMemberLocked(peerURL string, learner bool) (*logMember, error) {
	host, err := hostOf(peerURL)
	if err != nil {
		return nil, err
	}
	l.lastMemberNo++
	m := &logMember{
		id: fmt.Sprintf("%x", l.lastMemberNo), peerURL: peerURL, host: host, learner: learner,
		heard: time.Now(), committed: make(chan struct{}),
	}
	l.drawElectionTimeoutLocked(m)
	l.members[m.id] = m
	return m, nil
}

func (l *replicatedLog) drawElectionTimeoutLocked(m *logMember) {
	m.electionTimeout = electionTimeout + time.Duration(l.random.Int64N(int64(electionTimeout)))
}

// reachLocked tells whether two members run and messages arrive in both directions between them.
func (l *replicatedLog) reachLocked(a, b *logMember) bool {
	return a.holder != nil && b.holder != nil && l.net.runs(a.host) && (a == b || l.net.reach(a.host, b.host))
}

// majorityLocked tells whether a member can talk to a majority of the voters.
func (l *replicatedLog) majorityLocked(m *logMember) bool {
	voters, reached := 0, 0
	for _, other := range l.members {
		if other.learner {
			continue
		}
		voters++
		if l.reachLocked(m, other) {
			reached++
		}
	}
	return reached > voters/2
}

// leadsLocked tells whether a member is the leader and can have something agreed on.
func (l *replicatedLog) leadsLocked(m *logMember) bool {
	return l.leader == m && m != nil && !m.removed && l.majorityLocked(m)
}

// connectedLocked tells whether what a member proposes reaches a leader that can have it agreed on.
func (l *replicatedLog) connectedLocked(m *logMember) bool {
	return l.leader != nil && !m.removed && l.reachLocked(m, l.leader) && l.leadsLocked(l.leader)
}

// tick is a member's heartbeat: it follows the leader, gives up leadership without a majority, and stands for election.
func (l *replicatedLog) tick(m *logMember, r *replica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.holder != r || !l.net.runs(m.host) {
		return
	}
	if l.connectedLocked(m) {
		m.heard = time.Now()
		l.followLocked(m, l.leader)
		l.catchUpLocked(m)
		return
	}
	if time.Since(m.heard) < m.electionTimeout {
		return
	}
	if m.follows == m { // it believed that it led, until it was cut off or stood still: it steps down, and only then stands for election again
		m.heard = time.Now()
		l.followLocked(m, nil)
		return
	}
	l.drawElectionTimeoutLocked(m)
	l.followLocked(m, nil)
	if !m.learner && !m.removed && l.electableLocked(m) {
		l.electLocked(m)
	}
}

// electableLocked tells whether a majority of the voters can be reached and heeds no leader any more.
func (l *replicatedLog) electableLocked(candidate *logMember) bool {
	voters, votes := 0, 0
	for _, m := range l.members {
		if m.learner {
			continue
		}
		voters++
		heeds := m.follows != nil && time.Since(m.heard) < electionTimeout
		if m == candidate || l.reachLocked(candidate, m) && !heeds {
			votes++
		}
	}
	return votes > voters/2
}

func (l *replicatedLog) electLocked(m *logMember) {
	l.term++
	l.leader = m
	m.heard = time.Now()
	l.followLocked(m, m)
	m.applied = l.rev // a majority has everything that was agreed on, and votes for no one who lacks it
	l.announceLocked()
}

// announceLocked brings the log to all who can be reached now.
func (l *replicatedLog) announceLocked() {
	for _, m := range l.members {
		if l.connectedLocked(m) {
			m.heard = time.Now()
			l.followLocked(m, l.leader)
			l.catchUpLocked(m)
		}
	}
}

func (l *replicatedLog) followLocked(m, leader *logMember) {
	if m.follows != leader {
		m.follows = leader
		m.wakeLocked()
	}
}

func (l *replicatedLog) catchUpLocked(m *logMember) {
	if m.applied < l.rev {
		m.applied = l.rev
		m.wakeLocked()
	}
}

func (m *logMember) wakeLocked() {
	close(m.committed)
	m.committed = make(chan struct{})
}

// proposeLocked carries out a member's transaction. The caller has made sure that it is agreed on.
func (l *replicatedLog) proposeLocked(by *logMember, fence uint64, ops []store.Op) (uint64, error) {
	if fence != 0 && l.records[store.EpochKey].Rev != fence {
		return 0, store.ErrFenced
	}
	for _, op := range ops {
		if op.If != store.AnyRevision && l.records[op.Key].Rev != op.If {
			return 0, &store.KeyConflict{Key: op.Key}
		}
	}
	l.invariants.check(by.id, string(l.records[store.EpochKey].Value), fence, ops)
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

// claimLocked finds the member of the log of a manager that starts.
func (l *replicatedLog) claimLocked(file, peerURL string, join bool) (*logMember, error) {
	if join {
		for _, m := range l.members {
			if m.peerURL == peerURL && m.name == "" {
				return m, keepMember(file, m.id)
			}
		}
		return nil, errors.New("no logMember has been made for this store member")
	}
	id, err := os.ReadFile(file)
	if err == nil {
		m := l.members[string(id)]
		if m == nil {
			return nil, store.ErrRemoved
		}
		return m, nil
	}
	if len(l.members) > 0 {
		return nil, errors.New("there is a cluster already, and a test has just one")
	}
	m, err := l.newMemberLocked(peerURL, false)
	if err != nil {
		return nil, err
	}
	return m, keepMember(file, m.id)
}

// forceNewLocked makes a member the only one.
func (l *replicatedLog) forceNewLocked(only *logMember) {
	for id, m := range l.members {
		if m != only {
			m.removed = true
			delete(l.members, id)
		}
	}
}

func keepMember(file, id string) error {
	if err := os.MkdirAll(filepath.Dir(file), memberFolderMode); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(id), memberFileContent)
}

// idsLocked is the members in the order in which they were made.
func (l *replicatedLog) idsLocked() []string {
	ids := make([]string, 0, len(l.members))
	for n := uint64(1); n <= l.lastMemberNo; n++ {
		if id := fmt.Sprintf("%x", n); l.members[id] != nil {
			ids = append(ids, id)
		}
	}
	return ids
}
