package server

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Filters is the `filters` query parameter: values by name. A request that has none has an empty one, which lets everything
// pass.
type Filters map[string][]string

// ReadFilters decodes the parameter. Names that are not among the allowed ones are refused with status 400, as is what is no
// JSON object of filters.
func ReadFilters(r *http.Request, allowed ...string) (Filters, error) {
	text := r.FormValue("filters")
	if text == "" {
		return Filters{}, nil
	}
	f, err := decodeFilters([]byte(text))
	if err != nil {
		return nil, err
	}
	for name := range f {
		if !slices.Contains(allowed, name) {
			return nil, BadRequest("invalid filter '%s'", name)
		}
	}
	return f, nil
}

// decodeFilters reads {"name":{"value":true}}, or {"name":["value"]}, which was the form before API 1.22 and which SDKs still
// send.
func decodeFilters(text []byte) (Filters, error) {
	sets := map[string]map[string]bool{}
	if json.Unmarshal(text, &sets) != nil {
		lists := Filters{}
		if json.Unmarshal(text, &lists) != nil {
			return nil, BadRequest("invalid filter")
		}
		return lists, nil
	}
	f := Filters{}
	for name, values := range sets {
		for value, on := range values {
			if on {
				f[name] = append(f[name], value)
			}
		}
	}
	return f, nil
}

// Has tells whether the request filters by name at all.
func (f Filters) Has(name string) bool { return len(f[name]) > 0 }

// Any tells whether an object passes the filter of that name: there is none, or one of its values matches.
func (f Filters) Any(name string, match func(want string) bool) bool {
	if !f.Has(name) {
		return true
	}
	return slices.ContainsFunc(f[name], match)
}

// Equal tells whether a value passes the filter of that name: there is none, or one of its values is equal.
func (f Filters) Equal(name, value string) bool {
	return f.Any(name, func(want string) bool { return want == value })
}

// Prefix tells whether a value passes the filter of that name: there is none, or the value begins with one of its values.
func (f Filters) Prefix(name, value string) bool {
	return f.Any(name, func(want string) bool { return strings.HasPrefix(value, want) })
}

// Match tells whether a value passes the filter of that name: there is none, or one of its values is equal, or is a regular expression that is found in the
// value.
func (f Filters) Match(name, value string) bool {
	return f.Any(name, func(want string) bool {
		re, err := regexp.Compile(want)
		return want == value || err == nil && re.MatchString(value)
	})
}

// OneOf refuses a filter that has another value than those of a list, with status 400: nothing could pass it, which looks as if there were nothing.
func (f Filters) OneOf(name string, allowed ...string) error {
	for _, value := range f[name] {
		if !slices.Contains(allowed, value) {
			return BadRequest("invalid filter '%s=%s'", name, value)
		}
	}
	return nil
}

// Contains tells whether a value passes the filter of that name: there is none, or the value contains one of its values.
func (f Filters) Contains(name, value string) bool {
	return f.Any(name, func(want string) bool { return strings.Contains(value, want) })
}

// True tells whether a fact passes the filter of that name: there is none, or one of its values says "true" or "1" where it
// holds, or anything else where it does not.
func (f Filters) True(name string, fact bool) bool {
	return f.Any(name, func(want string) bool { return (want == "true" || want == "1") == fact })
}

// Bool reads a filter of true or false; given tells whether there is one. Any other value, or both at once, is refused with status 400.
func (f Filters) Bool(name string) (value, given bool, err error) {
	if !f.Has(name) {
		return false, false, nil
	}
	yes, no := 0, 0
	for _, v := range f[name] {
		switch v {
		case "1", "true", "True":
			yes++
		case "0", "false", "False":
			no++
		}
	}
	if (yes > 0) == (no > 0) {
		return false, true, BadRequest("invalid filter '%s=%s'", name, f[name])
	}
	return yes > 0, true, nil
}

// Labels tells whether labels pass the filters "label", of which every value must hold, and "label!", of which none may.
func (f Filters) Labels(labels map[string]string) bool {
	return f.LabelsNamed("label", labels) &&
		!slices.ContainsFunc(f["label!"], func(unwanted string) bool { return hasLabel(labels, unwanted) })
}

// LabelsNamed tells whether labels pass the filter of that name: each of its values, "key" or "key=value", must hold.
func (f Filters) LabelsNamed(name string, labels map[string]string) bool {
	return !slices.ContainsFunc(f[name], func(want string) bool { return !hasLabel(labels, want) })
}

// hasLabel tells whether labels hold "key" with whatever value, or "key=value".
func hasLabel(labels map[string]string, want string) bool {
	key, value, withValue := strings.Cut(want, "=")
	got, ok := labels[key]
	return ok && (!withValue || got == value)
}
