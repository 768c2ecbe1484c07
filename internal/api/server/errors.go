package server

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errhttp"
)

// statusError is an error with a status of its own.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// Errorf returns an error that is answered with the given HTTP status. It is for refusals whose status Docker does not
// derive from a kind of error, and for those that the API itself makes; what the rooms return has a kind of errdefs.
func Errorf(status int, format string, args ...any) error {
	return &statusError{status, fmt.Sprintf(format, args...)}
}

// BadRequest returns an error that is answered with status 400.
func BadRequest(format string, args ...any) error {
	return Errorf(http.StatusBadRequest, format, args...)
}

// Status is the HTTP status that Docker answers an error with: that of Errorf, else the one of its kind in errdefs; 500 for
// errors without a kind.
func Status(err error) int {
	var withStatus *statusError
	switch {
	case errors.As(err, &withStatus):
		return withStatus.status
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsInvalidArgument(err), errdefs.IsFailedPrecondition(err):
		return http.StatusBadRequest
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err):
		return http.StatusConflict
	case errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	case errdefs.IsNotModified(err):
		return http.StatusNotModified
	default:
		return errhttp.ToHTTP(err)
	}
}

// WriteError answers with a status and Docker's JSON for errors. Status 304 has no body, by RFC 9110.
func WriteError(w http.ResponseWriter, status int, message string) {
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	_ = WriteJSON(w, status, map[string]string{"message": message}) // a client that is gone misses nothing
}
