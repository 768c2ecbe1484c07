package build

import (
	"errors"
	"regexp"

	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
)

// StepError is the failure of a step's process. Its text is BuildKit's.
type StepError struct {
	Command string // as the shell got it; "" if it is not known
	Code    int    // the process's exit code
	err     error
}

// Error implements error.
func (e *StepError) Error() string { return e.err.Error() }

// Unwrap returns BuildKit's error.
func (e *StepError) Unwrap() error { return e.err }

// processText is how BuildKit's error tells which process failed.
var processText = regexp.MustCompile(`(?s)process "(.*)" did not complete successfully: exit code: \d+`)

// stepError makes an error that is of a step's process a *StepError.
func stepError(err error) error {
	var exit *gatewayapi.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	step := &StepError{Code: int(exit.ExitCode), err: err}
	if m := processText.FindStringSubmatch(err.Error()); m != nil {
		step.Command = m[1]
	}
	return step
}
