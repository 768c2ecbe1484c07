package container

import (
	"testing"

	"github.com/containerd/errdefs"
)

func TestCommandsAreForgottenWithTheirContainer(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sleep", "1000"}})
	x, err := n.engine.ExecCreate(id, ExecSpec{Cmd: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.engine.ExecStart(t.Context(), x.ID, nil, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := n.engine.ExecInspect(x.ID); err != nil {
		t.Errorf("after its end: %v", err)
	}
	if err := n.engine.Remove(t.Context(), id, true, true); err != nil {
		t.Fatal(err)
	}
	if _, err := n.engine.ExecInspect(x.ID); !errdefs.IsNotFound(err) {
		t.Errorf("after its container's removal: %v", err)
	}
}
