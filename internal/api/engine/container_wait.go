package engine

import (
	"encoding/json"
	"net/http"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
)

func (c *containers) wait(w http.ResponseWriter, r *http.Request) error {
	condition := container.Condition(r.FormValue("condition"))
	switch condition {
	case "":
		condition = container.NotRunning
	case container.NotRunning, container.NextExit, container.WaitRemoved:
	default:
		return server.BadRequest("invalid condition: %q", condition)
	}
	headerSent := false
	info, err := c.engine.Wait(r.Context(), r.PathValue("id"), condition, func() {
		headerSent = true
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
	})
	if !headerSent {
		return err
	}
	response := apicontainer.WaitResponse{StatusCode: int64(info.State.ExitCode)}
	if err != nil {
		response.Error = &apicontainer.WaitExitError{Message: err.Error()}
	} else if info.State.Error != "" && condition != container.WaitRemoved {
		// A client that waits for the removal of a container that could not start has already had the reason as the answer to
		// starting it.
		response.Error = &apicontainer.WaitExitError{Message: info.State.Error}
	}
	_ = json.NewEncoder(w).Encode(response)
	return nil
}
