package shoal

import (
	"net/netip"
	"testing"
)

func TestConstraints(t *testing.T) {
	n := &Node{
		ID: "abc", Role: RoleManager, Spec: NodeSpec{Labels: map[string]string{"disk": "SSD"}}, Status: NodeStatus{Addr: netip.MustParseAddr("10.0.0.5")},
		Description: NodeDescription{Hostname: "n1", Platform: Platform{OS: "linux", Architecture: "x86_64"}, EngineLabels: map[string]string{"os": "debian"}},
	}
	for text, want := range map[string]bool{
		"node.id==abc": true, "node.id != abc": false, "node.hostname==N1": true, "NODE.ROLE==manager": true, "node.role!=manager": false,
		"node.platform.os==linux": true, "node.platform.arch==amd64": true, "node.labels.disk==ssd": true, "node.labels.Disk==ssd": false,
		"node.labels.none!=x": true, "node.labels.none==x": false, "engine.labels.os==debian": true, "node.ip==10.0.0.0/24": true,
		"node.ip!=10.0.0.5": false, "node.nonsense==x": false, "node.nonsense!=x": false,
	} {
		all, err := ParseConstraints([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := all[0].SatisfiedBy(n); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
	for text, want := range map[string]string{
		"bogus": "constraint expected one operator from ==, !=", "a b==c": "key 'a b' is invalid", "node.id==": "value '' is invalid",
	} {
		if _, err := ParseConstraints([]string{text}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
