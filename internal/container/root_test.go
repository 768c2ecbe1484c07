package container

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// A client that reads the archive of `docker cp` slowly, or not at all, kept the container from being stopped.
func TestStopDoesNotWaitForACopy(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sleep", "1000"}, StopSignal: "SIGKILL"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := n.engine.WithRoot(ctx, id, func(root string) error {
		if _, err := os.Stat(filepath.Join(root, "bin/busybox")); err != nil {
			t.Error(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- n.engine.Stop(ctx, id, time.Second) }()
		select {
		case err := <-stopped:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if !errdefs.IsConflict(err) {
		t.Errorf("a copy during which the container ended: %v", err)
	}
}

func TestFilesOfAContainerAreVisibleWhetherItRunsOrNot(t *testing.T) {
	n := newNode(t)
	id := n.run(Spec{Cmd: []string{"sleep", "1000"}, StopSignal: "SIGKILL"})
	look := func() {
		t.Helper()
		err := n.engine.WithRoot(t.Context(), id, func(root string) error {
			_, err := Stat(root, "/etc/passwd")
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	look()
	if err := n.engine.Stop(t.Context(), id, time.Second); err != nil {
		t.Fatal(err)
	}
	look()
}
