package container

import (
	"slices"
	"testing"
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
	want := []Change{
		{Modified, "/etc"}, {Deleted, "/etc/group"}, {Modified, "/etc/passwd"}, {Added, "/new"}, {Added, "/new/link"},
		{Added, "/new/sub"}, {Added, "/new/sub/f"}, {Modified, "/tmp"}, {Added, "/tmp/t"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
