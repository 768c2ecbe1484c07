package probe

import (
	"math"
	"time"
)

const (
	// suspicionThreshold is how unlikely a silence must be, as -log10 of its probability, before the peer is suspected.
	suspicionThreshold = 3
	// minSilence is never exceeded by a healthy peer on a busy machine, whatever its history says.
	minSilence   = 600 * time.Millisecond
	maxIntervals = 32
)

// history is when one peer answered its latest probes.
type history struct {
	last      time.Time
	intervals []time.Duration // the last few, oldest first
	suspect   bool
}

func (p *history) answered(now time.Time) {
	if !p.last.IsZero() {
		p.intervals = append(p.intervals, now.Sub(p.last))
		if len(p.intervals) > maxIntervals {
			p.intervals = p.intervals[1:]
		}
	}
	p.last = now
}

// suspicionLevel grows with the length of the silence, measured by the peer's usual gaps: the accrual detector of Hayashibara et al., with
// exponentially distributed gaps.
func (p *history) suspicionLevel(now time.Time) float64 {
	mean := period
	for _, g := range p.intervals {
		mean += g / time.Duration(len(p.intervals))
	}
	return float64(now.Sub(p.last)) / float64(mean) * math.Log10E
}

// shouldSuspect tells whether the peer should be suspected. A peer that never answered is suspected too: it is skipped as long as others are left.
func (p *history) shouldSuspect(now time.Time) bool {
	return now.Sub(p.last) > minSilence && p.suspicionLevel(now) > suspicionThreshold
}
