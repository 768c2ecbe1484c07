package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// LogTimeLayout is RFC 3339 with all nine digits of a second, so that the texts of log lines stay aligned.
const LogTimeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// BoolParam reads a boolean query parameter as Docker does: absent, empty, 0, no, false and none, in whatever case (Python's clients send False), are
// false, all else is true.
func BoolParam(r *http.Request, name string) bool {
	switch strings.ToLower(strings.TrimSpace(r.FormValue(name))) {
	case "", "0", "no", "false", "none":
		return false
	default:
		return true
	}
}

// ParseTimestamp reads a time as Docker's clients send it: Unix seconds with an optional fraction, or RFC 3339. Empty and "0"
// are the zero time. Anything else is answered with status 400.
func ParseTimestamp(text string) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	seconds, fraction, _ := strings.Cut(text, ".")
	if s, err := strconv.ParseInt(seconds, 10, 64); err == nil {
		const digits = 9
		nanos, err := strconv.ParseInt((fraction + strings.Repeat("0", digits))[:digits], 10, 64)
		if err != nil {
			return time.Time{}, BadRequest("invalid time %q", text)
		}
		return time.Unix(s, nanos), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, BadRequest("invalid time %q", text)
	}
	return t, nil
}

// ParseTimeOrAge reads what ParseTimestamp does, an age such as "10m", counted back from now, or a date with or without a
// time of day, in UTC. Empty and "0" are the zero time. Anything else is answered with status 400.
func ParseTimeOrAge(text string, now time.Time) (time.Time, error) {
	t, err := ParseTimestamp(text)
	if err == nil {
		return t, nil
	}
	if age, err := time.ParseDuration(text); err == nil {
		return now.Add(-age), nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}
