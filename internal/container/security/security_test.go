package security

import (
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCapabilitiesAreAddedAndDropped(t *testing.T) {
	for _, tc := range []struct {
		add, drop []string
		want      []string
	}{
		{nil, nil, defaultCapabilities},
		{nil, []string{"all"}, []string{}},
		{[]string{"chown", "CAP_KILL"}, []string{"ALL"}, []string{"CAP_CHOWN", "CAP_KILL"}},
		{[]string{"CHOWN"}, nil, defaultCapabilities}, // not twice
		{[]string{"ALL"}, []string{"KILL"}, AllCapabilities()},
	} {
		if got, err := Capabilities(tc.add, tc.drop); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("add %v, drop %v: got %v, %v, want %v", tc.add, tc.drop, got, err, tc.want)
		}
	}
	for _, list := range [][]string{{"NO_SUCH"}, {""}} {
		if _, err := Capabilities(list, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("add %q: %v", list, err)
		}
		if _, err := Capabilities(nil, list); !errdefs.IsInvalidArgument(err) {
			t.Errorf("drop %q: %v", list, err)
		}
	}
}

func TestOnlyRootHasCapabilitiesAtOnce(t *testing.T) {
	for _, uid := range []uint32{0, 1000} {
		p := &specs.Process{User: specs.User{UID: uid}}
		SetCapabilities(p, defaultCapabilities)
		if effective := len(p.Capabilities.Effective) > 0; effective != (uid == 0) || len(p.Capabilities.Bounding) == 0 {
			t.Errorf("user %d: %+v", uid, p.Capabilities)
		}
	}
}

func TestSecurityOptions(t *testing.T) {
	for option, want := range map[string]bool{
		"no-new-privileges": true, "no-new-privileges=true": true, "no-new-privileges:true": true,
		"no-new-privileges=false": false, "seccomp=unconfined": false,
	} {
		if got := NoNewPrivileges([]string{option}); got != want {
			t.Errorf("%s: %v", option, got)
		}
	}
	for option, filtered := range map[string]bool{"seccomp=unconfined": false, "seccomp:unconfined": false, "no-new-privileges": true} {
		spec := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
		SetCapabilities(spec.Process, defaultCapabilities)
		if err := Restrict(spec, []string{option}); err != nil || (spec.Linux.Seccomp != nil) != filtered || len(spec.Linux.MaskedPaths) == 0 {
			t.Errorf("%s: %v, filter %v", option, err, spec.Linux.Seccomp != nil)
		}
	}
	if err := Restrict(&specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}, []string{"seccomp=no JSON"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a profile that cannot be read: %v", err)
	}
}
