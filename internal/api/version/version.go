// Package version serves clients of every API version from Min to Max with resources that know the newest only. It reads a request as its client's version
// words it and rewrites it as the newest does, and an answer the other way round; it writes nothing else and keeps no state.
//
// What an API version changed is a Change: one row of a table in the file of its version, v1xx.go. A request passes the changes that are newer than its
// client, oldest first; an answer passes the same ones, newest first. A resource asks Before only where a version changes what is done rather than how
// it is said. docs/api-versions.md tells it with the table of changes, and a test compares the two.
package version

import (
	"context"

	"github.com/moby/moby/client/pkg/versions"
)

const (
	// Max is the newest API version that is spoken; a request without a version is of this one.
	Max = "1.56"
	// Min is the oldest API version that is spoken.
	Min = "1.24"
)

// contextKey is the key of a request's API version in its context.
type contextKey struct{}

// With returns a context of a request of an API version.
func With(ctx context.Context, v string) context.Context {
	return context.WithValue(ctx, contextKey{}, v)
}

// Of is the API version of a request, by its context.
func Of(ctx context.Context) string {
	if v, ok := ctx.Value(contextKey{}).(string); ok {
		return v
	}
	return Max
}

// Before tells whether a request is of an older API version than v.
func Before(ctx context.Context, v string) bool { return Older(Of(ctx), v) }

// Older tells whether an API version is older than another one. Both are numbers with a dot between.
func Older(v, than string) bool { return versions.LessThan(v, than) }
