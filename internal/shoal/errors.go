package shoal

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Refusal is an error in the form that Docker's users know from the swarm API, "rpc error: code = CODE desc = TEXT", where CODE is one of
// gRPC's. It wraps an error of errdefs, from which the API derives the HTTP status.
type Refusal struct {
	code string
	desc string
	kind error
}

// Error is the text with the code, as Docker shows it to users.
func (r *Refusal) Error() string { return "rpc error: code = " + r.code + " desc = " + r.desc }

// Desc is the refusal's text without the code.
func (r *Refusal) Desc() string { return r.desc }

// Unwrap is the kind: one of the errors of errdefs.
func (r *Refusal) Unwrap() error { return r.kind }

// InvalidArgument refuses a request that cannot succeed unless it is changed (HTTP 400).
func InvalidArgument(format string, args ...any) error {
	return &Refusal{"InvalidArgument", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument}
}

// AlreadyExists refuses a second object with a name in use (HTTP 409).
func AlreadyExists(format string, args ...any) error {
	return &Refusal{"AlreadyExists", fmt.Sprintf(format, args...), errdefs.ErrAlreadyExists}
}

// FailedPrecondition refuses a request that the present state of the cluster does not allow (HTTP 400, as in Docker).
func FailedPrecondition(format string, args ...any) error {
	return &Refusal{"FailedPrecondition", fmt.Sprintf(format, args...), errdefs.ErrFailedPrecondition}
}

// PermissionDenied refuses a request that this caller may not make, or that the object's settings forbid (HTTP 403).
func PermissionDenied(format string, args ...any) error {
	return &Refusal{"PermissionDenied", fmt.Sprintf(format, args...), errdefs.ErrPermissionDenied}
}

// NotFound says that there is no such object (HTTP 404).
func NotFound(format string, args ...any) error {
	return &Refusal{"NotFound", fmt.Sprintf(format, args...), errdefs.ErrNotFound}
}

// Unavailable says that a node or manager cannot be reached at the moment (HTTP 503).
func Unavailable(format string, args ...any) error {
	return &Refusal{"Unavailable", fmt.Sprintf(format, args...), errdefs.ErrUnavailable}
}

// Unknown is for the few refusals that Docker sends with the code Unknown (HTTP 500).
func Unknown(format string, args ...any) error {
	return &Refusal{"Unknown", fmt.Sprintf(format, args...), errdefs.ErrUnknown}
}

// ErrOutOfSequence is Docker's answer to an update of an object that has changed since the version that the client names.
var ErrOutOfSequence = Unknown("update out of sequence")

// RefusalWithCode rebuilds a refusal that came from another node, from the name of its gRPC code and its text. A code for which there is
// no constructor here becomes a refusal of the kind errdefs.ErrUnknown.
func RefusalWithCode(code, desc string) error {
	kinds := map[string]error{
		"InvalidArgument":    errdefs.ErrInvalidArgument,
		"AlreadyExists":      errdefs.ErrAlreadyExists,
		"FailedPrecondition": errdefs.ErrFailedPrecondition,
		"PermissionDenied":   errdefs.ErrPermissionDenied,
		"NotFound":           errdefs.ErrNotFound,
		"Unavailable":        errdefs.ErrUnavailable,
	}
	kind, ok := kinds[code]
	if !ok {
		kind = errdefs.ErrUnknown
	}
	return &Refusal{code, desc, kind}
}

// Code is the name of the refusal's gRPC code, such as "NotFound".
func (r *Refusal) Code() string { return r.code }
