package api

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filters is the parameter of that name: values by filter.
type filters map[string][]string

// filtersOf reads both of the forms that clients send: {"name":["a"]} and {"name":{"a":true}}.
func filtersOf(r *http.Request) (filters, error) {
	text := r.FormValue("filters")
	if text == "" {
		return filters{}, nil
	}
	lists := filters{}
	if err := json.Unmarshal([]byte(text), &lists); err == nil {
		return lists, nil
	}
	sets := map[string]map[string]bool{}
	if err := json.Unmarshal([]byte(text), &sets); err != nil {
		return nil, fail(http.StatusBadRequest, "invalid filter")
	}
	lists = filters{}
	for name, values := range sets {
		for v, on := range values {
			if on {
				lists[name] = append(lists[name], v)
			}
		}
		slices.Sort(lists[name])
	}
	return lists, nil
}

// only refuses filters that are not among those known.
func (f filters) only(known ...string) error {
	for name := range f {
		if !slices.Contains(known, name) {
			return fail(http.StatusBadRequest, "invalid filter '%s'", name)
		}
	}
	return nil
}

// any tells whether one of a filter's values fits, or there is none.
func (f filters) any(name string, fits func(string) bool) bool {
	return len(f[name]) == 0 || slices.ContainsFunc(f[name], fits)
}

// labels tells whether all label filters fit: "key", "key=value" and, for label!, none of them.
func (f filters) labels(have map[string]string) bool {
	fits := func(want string) bool {
		key, value, hasValue := strings.Cut(want, "=")
		got, ok := have[key]
		return ok && (!hasValue || got == value)
	}
	for _, want := range f["label"] {
		if !fits(want) {
			return false
		}
	}
	return !slices.ContainsFunc(f["label!"], fits)
}

// until tells whether something is old enough for the filter of that name: a time or an age.
func (f filters) until(at time.Time) bool {
	for _, v := range f["until"] {
		if t, ok := parseTime(v, time.Now()); ok && at.After(t) {
			return false
		}
	}
	return true
}

// parseTime reads a Unix time with fraction, an RFC 3339 time or an age ("10m").
func parseTime(text string, now time.Time) (time.Time, bool) {
	if text == "" || text == "0" {
		return time.Time{}, false
	}
	if seconds, fraction, _ := strings.Cut(text, "."); true {
		if s, err := strconv.ParseInt(seconds, 10, 64); err == nil {
			n, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
			return time.Unix(s, n), true
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// nameMatches tells whether a name fits a filter, which is a part of it or a regular expression.
func nameMatches(pattern, name string) bool {
	if re, err := regexp.Compile(pattern); err == nil {
		return re.MatchString(name)
	}
	return strings.Contains(name, pattern)
}
