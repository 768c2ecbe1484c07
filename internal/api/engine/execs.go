package engine

import (
	"context"
	"io"
	"net/http"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/fault"
)

func (c *containers) registerExec(rt *server.Router) {
	rt.Handle("POST /containers/{id}/exec", c.execCreate)
	rt.Handle("POST /exec/{id}/start", c.execStart)
	rt.Handle("POST /exec/{id}/resize", c.execResize)
	rt.Handle("GET /exec/{id}/json", c.execInspect)
}

func (c *containers) execCreate(w http.ResponseWriter, r *http.Request) error {
	body := apicontainer.ExecCreateRequest{}
	if err := server.ReadJSON(r, &body); err != nil {
		return err
	}
	if len(body.Cmd) == 0 {
		return server.BadRequest("No exec command specified")
	}
	x, err := c.engine.ExecCreate(r.PathValue("id"), container.ExecSpec{
		Cmd: body.Cmd, Env: body.Env, WorkingDir: body.WorkingDir, User: body.User, TTY: body.Tty, Privileged: body.Privileged,
		ConsoleSize: consoleSize(body.ConsoleSize), Stdin: body.AttachStdin, Stdout: body.AttachStdout, Stderr: body.AttachStderr, DetachKeys: body.DetachKeys,
	})
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusCreated, apicontainer.ExecCreateResponse{ID: x.ID})
}

// consoleSize is the height and width of a terminal; zero leaves them to the kernel.
func consoleSize(size *[2]uint) [2]uint {
	if size == nil {
		return [2]uint{}
	}
	return *size
}

func (c *containers) execStart(w http.ResponseWriter, r *http.Request) error {
	body := apicontainer.ExecStartRequest{}
	if err := server.ReadJSON(r, &body); err != nil {
		return err
	}
	x, err := c.engine.ExecInspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(r.Context()) // the command goes on when the client that started it is gone
	resize := func() {
		if size := body.ConsoleSize; size != nil && body.Tty && x.Spec.TTY {
			_ = c.engine.ExecResize(ctx, x.ID, uint32(size[1]), uint32(size[0]))
		}
	}
	if body.Detach {
		return c.execDetached(ctx, w, x.ID, resize)
	}
	if _, err := c.engine.Inspect(x.ContainerID); err != nil {
		return err
	}
	keys, err := server.ParseDetachKeys(x.Spec.DetachKeys)
	if err != nil {
		return err
	}
	// How the output is framed is up to the request that starts the command, whether the command has a terminal or not.
	conn, err := server.HijackStream(w, r, body.Tty)
	if err != nil {
		return err
	}
	defer conn.Close()
	var stdin io.Reader
	if x.Spec.Stdin {
		stdin = conn
		if x.Spec.TTY {
			stdin = server.NewDetachReader(conn, keys, func() {
				c.engine.Tell(x.ContainerID, "exec_detach", map[string]string{"execID": x.ID})
				conn.Close()
			})
		}
	}
	stdout, stderr := server.OutputWriters(conn, body.Tty)
	if !x.Spec.Stdout {
		stdout = nil
	}
	if !x.Spec.Stderr || body.Tty {
		stderr = nil
	}
	if err := c.engine.ExecStart(ctx, x.ID, stdin, stdout, stderr, resize); err != nil {
		conn.WriteError(body.Tty, err)
	}
	return nil
}

// execDetached answers as soon as the command runs, or has failed to start.
func (c *containers) execDetached(ctx context.Context, w http.ResponseWriter, id string, resize func()) error {
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- fault.Contain(c.log, "detached exec", func() error {
			return c.engine.ExecStart(ctx, id, nil, nil, nil, func() { resize(); close(started) })
		})
	}()
	select {
	case <-started:
	case err := <-ended:
		if err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (c *containers) execResize(_ http.ResponseWriter, r *http.Request) error {
	width, height, err := terminalSize(r)
	if err != nil {
		return err
	}
	return c.engine.ExecResize(r.Context(), r.PathValue("id"), width, height)
}

func (c *containers) execInspect(w http.ResponseWriter, r *http.Request) error {
	x, err := c.engine.ExecInspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	s := x.State()
	return server.WriteJSON(w, http.StatusOK, apicontainer.ExecInspectResponse{
		ID: x.ID, ContainerID: x.ContainerID, Running: s.Running, ExitCode: s.ExitCode, Pid: s.PID, CanRemove: s.ExitCode != nil,
		OpenStdin: x.Spec.Stdin, OpenStdout: x.Spec.Stdout, OpenStderr: x.Spec.Stderr, DetachKeys: []byte(x.Spec.DetachKeys),
		ProcessConfig: &apicontainer.ExecProcessConfig{Tty: x.Spec.TTY, Entrypoint: x.Spec.Cmd[0], Arguments: x.Spec.Cmd[1:], Privileged: &x.Spec.Privileged, User: x.Spec.User},
	})
}
