package container

import (
	"slices"
	"testing"

	"github.com/shoal-dev/shoal/internal/container/layers"
)

func TestDiffSeesWhatTheContainerChanged(t *testing.T) {
	n := newNode(t)
	idle := n.run(Spec{Cmd: []string{"true"}})
	n.end(idle)
	if got, err := n.engine.Diff(t.Context(), idle); err != nil || len(got) != 0 {
		t.Errorf("of an idle container: %v, %v", got, err)
	}
	script := `mkdir -p /new/sub; echo x >/new/sub/f; rm /etc/group; echo y >>/etc/passwd
mkdir /gone; rmdir /gone; rm -r /tmp && mkdir /tmp && chmod 1777 /tmp && echo z >/tmp/t; ln -s /etc /new/link`
	id := n.run(Spec{Cmd: []string{"sh", "-c", script}})
	n.end(id)
	got, err := n.engine.Diff(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	change := func(kind layers.ChangeKind, path string) layers.Change { return layers.Change{Kind: kind, Path: path} }
	want := []layers.Change{
		change(layers.Modified, "/etc"), change(layers.Deleted, "/etc/group"), change(layers.Modified, "/etc/passwd"), change(layers.Added, "/new"), change(layers.Added, "/new/link"),
		change(layers.Added, "/new/sub"), change(layers.Added, "/new/sub/f"), change(layers.Modified, "/tmp"), change(layers.Added, "/tmp/t"),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
