package shoal

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Refusal is an error whose text Docker's users know from the swarm API: "rpc error: code = CODE desc = TEXT". It wraps
// one of errdefs' kinds, from which the API takes the HTTP status.
type Refusal struct {
	code string
	desc string
	kind error
}

// Error is the text that Docker's users see, with its code.
func (r *Refusal) Error() string { return "rpc error: code = " + r.code + " desc = " + r.desc }

// Desc is the text without the code.
func (r *Refusal) Desc() string { return r.desc }

// Unwrap is the error of errdefs that says the kind of the refusal.
func (r *Refusal) Unwrap() error { return r.kind }

// InvalidArgument refuses a request that can never succeed as it is (HTTP 400).
func InvalidArgument(format string, args ...any) error {
	return &Refusal{"InvalidArgument", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument}
}

// AlreadyExists refuses a second object with a name in use (HTTP 409).
func AlreadyExists(format string, args ...any) error {
	return &Refusal{"AlreadyExists", fmt.Sprintf(format, args...), errdefs.ErrAlreadyExists}
}

// FailedPrecondition refuses what the present state of the cluster does not allow (HTTP 400, as Docker does).
func FailedPrecondition(format string, args ...any) error {
	return &Refusal{"FailedPrecondition", fmt.Sprintf(format, args...), errdefs.ErrFailedPrecondition}
}

// PermissionDenied refuses what the caller or the object does not allow (HTTP 403).
func PermissionDenied(format string, args ...any) error {
	return &Refusal{"PermissionDenied", fmt.Sprintf(format, args...), errdefs.ErrPermissionDenied}
}

// NotFound says that there is no such object (HTTP 404), in the words of a remote manager.
func NotFound(format string, args ...any) error {
	return &Refusal{"NotFound", fmt.Sprintf(format, args...), errdefs.ErrNotFound}
}

// Unavailable says that something cannot be reached at the moment (HTTP 503).
func Unavailable(format string, args ...any) error {
	return &Refusal{"Unavailable", fmt.Sprintf(format, args...), errdefs.ErrUnavailable}
}

// Unknown is for the few refusals that Docker sends without a proper code (HTTP 500).
func Unknown(format string, args ...any) error {
	return &Refusal{"Unknown", fmt.Sprintf(format, args...), errdefs.ErrUnknown}
}

// ErrOutOfSequence is Docker's answer to an update against a version that is no longer the current one.
var ErrOutOfSequence = Unknown("update out of sequence")

// RefusalWithCode rebuilds a refusal that another node has sent. An unknown code is kept; its kind is errdefs.ErrUnknown.
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

// Code is the refusal's gRPC code, such as "NotFound".
func (r *Refusal) Code() string { return r.code }
