package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filters is the `filters` query parameter: values by name. A request that has none has an empty one.
type filters map[string][]string

// readFilters decodes the parameter and refuses names that are not among the allowed ones.
func readFilters(r *http.Request, allowed ...string) (filters, error) {
	text := r.FormValue("filters")
	if text == "" {
		return filters{}, nil
	}
	sets := map[string]map[string]bool{}
	if err := json.Unmarshal([]byte(text), &sets); err != nil {
		lists := map[string][]string{} // the form before API 1.22, which SDKs still send
		if json.Unmarshal([]byte(text), &lists) != nil {
			return nil, fail(http.StatusBadRequest, "invalid filter")
		}
		return filters(lists).check(allowed)
	}
	f := filters{}
	for name, values := range sets {
		for value, on := range values {
			if on {
				f[name] = append(f[name], value)
			}
		}
	}
	return f.check(allowed)
}

func (f filters) check(allowed []string) (filters, error) {
	for name := range f {
		if !slices.Contains(allowed, name) {
			return nil, fail(http.StatusBadRequest, "invalid filter '%s'", name)
		}
	}
	return f, nil
}

// has tells whether the request filters by name at all.
func (f filters) has(name string) bool { return len(f[name]) > 0 }

// exact tells whether a value passes: there is no such filter, or one of its values is equal.
func (f filters) exact(name, value string) bool {
	return f.any(name, func(want string) bool { return want == value })
}

// prefix tells whether a value passes: there is no such filter, or one of its values begins it.
func (f filters) prefix(name, value string) bool {
	return f.any(name, func(want string) bool { return strings.HasPrefix(value, want) })
}

// contains tells whether a value passes: there is no such filter, or one of its values is within it.
func (f filters) contains(name, value string) bool {
	return f.any(name, func(want string) bool { return strings.Contains(value, want) })
}

func (f filters) any(name string, match func(want string) bool) bool {
	if !f.has(name) {
		return true
	}
	return slices.ContainsFunc(f[name], match)
}

// labelled tells whether labels pass the filters label (every value must hold) and label! (none may).
func (f filters) labelled(labels map[string]string) bool {
	if !f.labels("label", labels) {
		return false
	}
	for _, unwanted := range f["label!"] {
		if (filters{"label": {unwanted}}).labels("label", labels) {
			return false
		}
	}
	return true
}

// labels tells whether labels pass: every value, "key" or "key=value", must hold.
func (f filters) labels(name string, labels map[string]string) bool {
	for _, want := range f[name] {
		key, value, withValue := strings.Cut(want, "=")
		got, ok := labels[key]
		if !ok || (withValue && got != value) {
			return false
		}
	}
	return true
}

// boolean reads a filter of true or false; given tells whether there is one.
func (f filters) boolean(name string) (value, given bool, err error) {
	if !f.has(name) {
		return false, false, nil
	}
	switch f[name][0] {
	case "1", "true", "True":
		return true, true, nil
	case "0", "false", "False":
		return false, true, nil
	default:
		return false, true, fail(http.StatusBadRequest, "%s", fmt.Sprintf("invalid filter '%s=%s'", name, f[name]))
	}
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
