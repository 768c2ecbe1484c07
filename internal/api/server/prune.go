package server

import (
	"net/http"
	"slices"
	"time"
)

// PruneFilters is what a prune request leaves of what it might remove: what was made before a time and has labels, or has them not.
type PruneFilters struct {
	Filters
	until time.Time
}

// ReadPruneFilters is ReadFilters for a prune request. A time that cannot be read is refused, because without it more would be removed than was asked for.
func ReadPruneFilters(r *http.Request, allowed ...string) (PruneFilters, error) {
	f, err := ReadFilters(r, slices.Concat(allowed, []string{"label", "label!"})...)
	if err != nil {
		return PruneFilters{}, err
	}
	p := PruneFilters{Filters: f}
	switch times := f["until"]; len(times) {
	case 0:
	case 1:
		p.until, err = ParseTimeOrAge(times[0], time.Now())
	default:
		err = BadRequest("more than one until filter specified")
	}
	return p, err
}

// Take tells whether something with those labels, made then, is to be removed.
func (p PruneFilters) Take(labels map[string]string, made time.Time) bool {
	return p.Labels(labels) && (p.until.IsZero() || !made.After(p.until))
}
