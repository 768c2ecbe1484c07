package etcd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	measureLimit = 300 * time.Millisecond // that a start may wait for peers; one that says nothing by then is not measured
	patience     = 10                     // round trips and flushes without a heartbeat before a member stands for election, as etcd advises
	maxElection  = 5 * time.Second
	// At least so many heartbeats of the leader fit into an election timeout, whichever of the two measured longer ways.
	heartbeatsPerElection = 7
	flushesMeasured       = 5
)

// timing is the heartbeat and election timeouts that suit a way to the other members and a disk: a short one finds a dead leader soon, and one that
// is shorter than what the way and the disk need makes elections of every delay.
func timing(roundTrip, flush time.Duration) (heartbeat, election time.Duration) {
	election = max(electionMs*time.Millisecond, patience*(roundTrip+flush))
	election = min(election, maxElection)
	return max(heartbeatMs*time.Millisecond, min(roundTrip, election/heartbeatsPerElection)), election
}

// measuredTiming measures what timing asks for.
func measuredTiming(ctx context.Context, dir string, peers []string) (heartbeat, election time.Duration) {
	var wait sync.WaitGroup
	var trip, flush time.Duration
	wait.Go(func() { trip = longestRoundTrip(ctx, peers) })
	wait.Go(func() { flush = flushTime(dir) })
	wait.Wait()
	return timing(trip, flush)
}

// longestRoundTrip is how long the farthest peer takes to answer: with a connection, or with the word that nobody listens.
func longestRoundTrip(ctx context.Context, peers []string) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	trips := make([]time.Duration, len(peers))
	var wait sync.WaitGroup
	for i, peer := range peers {
		wait.Go(func() {
			began := time.Now()
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", peer)
			if err == nil {
				_ = conn.Close()
			} else if !errors.Is(err, syscall.ECONNREFUSED) {
				return
			}
			trips[i] = time.Since(began)
		})
	}
	wait.Wait()
	if len(trips) == 0 {
		return 0
	}
	return slices.Max(trips)
}

// flushTime is the median time in which the disk under a folder takes a small write for good; 0 if it takes none, which others will say.
func flushTime(dir string) time.Duration {
	f, err := os.OpenFile(filepath.Join(dir, "flush"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	times := make([]time.Duration, flushesMeasured)
	block := make([]byte, os.Getpagesize())
	for i := range times {
		began := time.Now()
		if _, err := f.WriteAt(block, 0); err != nil {
			return 0
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times[len(times)/2]
}
