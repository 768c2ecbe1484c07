package engine

import (
	"context"
	"net/http"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
)

func (c *containers) attach(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	if info.State.Status == container.Paused {
		return server.Errorf(http.StatusConflict, "container %s is paused, unpause the container before attach", info.ID)
	}
	keys, err := server.ParseDetachKeys(r.FormValue("detachKeys"))
	if err != nil {
		return err
	}
	conn, err := server.HijackStream(w, r, info.Spec.TTY)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	spec := container.AttachSpec{Logs: server.BoolParam(r, "logs"), Stream: server.BoolParam(r, "stream")}
	stdout, stderr := server.OutputWriters(conn, info.Spec.TTY)
	if server.BoolParam(r, "stdout") {
		spec.Stdout = stdout
	}
	if server.BoolParam(r, "stderr") {
		spec.Stderr = stderr
	}
	if server.BoolParam(r, "stdin") {
		spec.Stdin = conn
		if info.Spec.TTY {
			spec.Stdin = server.NewDetachReader(conn, keys, func() {
				c.engine.Tell(info.ID, "detach", nil)
				cancel()
			})
		}
	}
	if err := c.engine.Attach(ctx, info.ID, spec, func() {}); err != nil {
		conn.WriteError(info.Spec.TTY, err)
	}
	return nil
}
