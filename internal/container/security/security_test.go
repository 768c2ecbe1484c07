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
		if got, err := Parse([]string{option}); got.NoNewPrivileges != want || err != nil {
			t.Errorf("%s: %v, %v", option, got, err)
		}
	}
	for _, option := range []string{"colour", "colour=red", "no-new-privileges=perhaps", "seccomp"} {
		if _, err := Parse([]string{option}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", option, err)
		}
	}
	for option, filtered := range map[string]bool{"seccomp=unconfined": false, "seccomp:unconfined": false, "no-new-privileges": true, `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`: true} {
		if spec, err := restricted(t, option, false); err != nil || (spec.Linux.Seccomp != nil) != filtered || len(spec.Linux.MaskedPaths) == 0 {
			t.Errorf("%s: %v, filter %v", option, err, spec.Linux.Seccomp != nil)
		}
	}
	if spec, err := restricted(t, "label=disable", true); err != nil || spec.Linux.Seccomp != nil || spec.Linux.MaskedPaths != nil {
		t.Errorf("privileged: %+v, %v", spec.Linux, err)
	}
	if _, err := restricted(t, "seccomp=no JSON", false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a profile that cannot be read: %v", err)
	}
}

func restricted(t *testing.T, option string, privileged bool) (*specs.Spec, error) {
	t.Helper()
	spec := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	SetCapabilities(spec.Process, defaultCapabilities)
	options, err := Parse([]string{option})
	if err != nil {
		t.Fatal(err)
	}
	return spec, Restrict(spec, options, privileged, nil, nil)
}
