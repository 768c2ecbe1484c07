package engine

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
)

func (c *containers) top(w http.ResponseWriter, r *http.Request) error {
	pids, err := c.engine.Pids(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	args := strings.Fields(r.FormValue("ps_args"))
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.CommandContext(r.Context(), "ps", args...).Output() // #nosec G204 G702 -- arguments of ps, as the API promises
	if err != nil {
		return fmt.Errorf("run ps: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	titles := strings.Fields(lines[0])
	at := slices.Index(titles, "PID")
	if at < 0 {
		return server.Errorf(http.StatusInternalServerError, "Couldn't find PID field in ps output")
	}
	processes := [][]string{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) < len(titles) {
			continue
		}
		if pid, err := strconv.Atoi(fields[at]); err == nil && slices.Contains(pids, pid) {
			last := len(titles) - 1
			processes = append(processes, append(fields[:last:last], strings.Join(fields[last:], " ")))
		}
	}
	c.engine.Tell(r.PathValue("id"), "top", nil)
	return server.WriteJSON(w, http.StatusOK, apicontainer.TopResponse{Titles: titles, Processes: processes})
}
