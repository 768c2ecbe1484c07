// Package fault makes a panic, which is a fault of ours, an error of the operation that met it. Go ends the process at a panic of any goroutine, and with it every
// container's API, names and log readers; and a fault that stored data or a message brings out would end it again at every start. It writes the stack to
// the log that it is given, and reads nothing (docs/durability.md).
package fault

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Error is a panic that was contained. Its text is for users; it is of no errdefs kind, so that the API answers 500.
type Error struct {
	Value any // what panic was called with
	Stack []byte
}

// Error says that it is no fault of the user's.
func (e *Error) Error() string {
	return fmt.Sprintf("the daemon met a fault of its own, please report it: %v", e.Value)
}

// Contain calls f and returns its error. If f panics, the error is an *Error, and the log has the stack and what was given up, such as
// "exec in a container". A nil log is slog's default.
//
// It is for one piece of work: a request's, a message's, a record's, a task's. That piece has failed, is reported so, and is tried again or not as after
// any other error. f must give back its locks by defer. A loop that keeps state between its rounds contains each round, if a round that was cut off leaves nothing half
// changed; otherwise it contains the whole loop and lets whoever runs it build its state anew, as a manager does. Memory that is corrupted (concurrent map
// writes, an exhausted stack) ends the process all the same: the runtime gives nobody a say.
func Contain(log *slog.Logger, what string, f func() error) (err error) {
	defer func() {
		value := recover()
		if value == nil {
			return
		}
		contained := &Error{Value: value, Stack: debug.Stack()}
		if log == nil {
			log = slog.Default()
		}
		log.Error("a fault of the daemon was contained; what it was doing is given up, please report it", "what", what, "panic", value, "stack", string(contained.Stack))
		err = contained
	}()
	return f()
}

// Do is Contain for work without a result. It tells whether f came to its end.
func Do(log *slog.Logger, what string, f func()) (completed bool) {
	return Contain(log, what, func() error { f(); return nil }) == nil
}
