package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
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
		known := false
		for _, a := range allowed {
			known = known || a == name
		}
		if !known {
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
	for _, want := range f[name] {
		if match(want) {
			return true
		}
	}
	return false
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
