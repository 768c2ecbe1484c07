package store

import "time"

// repeatAfter is how long a series of failures with one reason goes on until it is told of again.
const repeatAfter = 10 * time.Minute

// Failures tells which failures of something that is tried again and again are worth a line in the log: the first of a series, one with another
// reason than the line before, and one after every ten minutes. Its zero value is ready for use, by one goroutine.
type Failures struct {
	told   time.Time
	reason string
}

// Failed notes a failure, and tells whether it is worth a line.
func (f *Failures) Failed(err error, now time.Time) bool {
	if f.reason == err.Error() && now.Sub(f.told) < repeatAfter {
		return false
	}
	f.told, f.reason = now, err.Error()
	return true
}

// Succeeded notes a success, and tells whether it ends a series of failures.
func (f *Failures) Succeeded() bool {
	ended := f.reason != ""
	*f = Failures{}
	return ended
}
