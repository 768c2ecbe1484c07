package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	dockercli "github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// addServiceExec adds `service exec`: docker's `container exec`, with all its options, in a task of a service wherever it runs.
func addServiceExec(root *cobra.Command, docker command.Cli) {
	service, _, err := root.Find([]string{"service"})
	if err != nil {
		return
	}
	exec, _, err := root.Find([]string{"container", "exec"})
	if err != nil {
		return
	}
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] SERVICE[.SLOT] COMMAND [ARG...]",
		Short: "Execute a command in a running task of a service",
		Args:  dockercli.RequiresMinArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			container, err := taskContainer(cmd.Context(), docker.Client(), args[0])
			if err != nil {
				return err
			}
			return exec.RunE(cmd, append([]string{container}, args[1:]...))
		},
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().AddFlagSet(exec.Flags())
	service.AddCommand(cmd)
}

// taskContainer is the container of a running task of a service, or of the slot (or node, for a global service) that follows the
// service's name after a dot.
func taskContainer(ctx context.Context, api client.APIClient, ref string) (string, error) {
	service, slot, err := findService(ctx, api, ref)
	if err != nil {
		return "", err
	}
	filters := client.Filters{}.Add("service", service).Add("desired-state", "running")
	tasks, err := api.TaskList(ctx, client.TaskListOptions{Filters: filters})
	if err != nil {
		return "", err
	}
	for _, t := range tasks.Items {
		status := t.Status.ContainerStatus
		if t.Status.State != swarm.TaskStateRunning || status == nil {
			continue
		}
		if slot == "" || slot == strconv.Itoa(t.Slot) || slot == t.NodeID {
			return status.ContainerID, nil
		}
	}
	return "", fmt.Errorf("no running task of %s", ref)
}

// findService finds the service of a reference, which may be followed by a slot: "web.2". The reference as a whole is tried first, because names of
// services may contain dots.
func findService(ctx context.Context, api client.APIClient, ref string) (id, slot string, err error) {
	found, err := api.ServiceInspect(ctx, ref, client.ServiceInspectOptions{})
	if err == nil {
		return found.Service.ID, "", nil
	}
	dot := strings.LastIndexByte(ref, '.')
	if !errdefs.IsNotFound(err) || dot < 0 {
		return "", "", err
	}
	found, secondErr := api.ServiceInspect(ctx, ref[:dot], client.ServiceInspectOptions{})
	if secondErr != nil {
		return "", "", err
	}
	return found.Service.ID, ref[dot+1:], nil
}
