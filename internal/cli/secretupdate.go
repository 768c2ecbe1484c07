package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	dockercli "github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// addSecretUpdate adds `secret update` and `config update`, which docker does not have: they replace the data, and services with the
// label shoal.follow=true are updated to it.
func addSecretUpdate(root *cobra.Command, docker command.Cli) {
	for kind, update := range map[string]func(context.Context, client.APIClient, string, []byte) error{"secret": updateSecret, "config": updateConfig} {
		parent, _, err := root.Find([]string{kind})
		if err != nil {
			continue
		}
		parent.AddCommand(&cobra.Command{
			Use:   "update " + kind + " file|-",
			Short: "Replace the data of a " + kind + "; services with the label shoal.follow=true roll",
			Args:  dockercli.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				data, err := readData(docker.In(), args[1])
				if err != nil {
					return fmt.Errorf("read content from %q: %w", args[1], err)
				}
				if err := update(cmd.Context(), docker.Client(), args[0], data); err != nil {
					return err
				}
				_, err = fmt.Fprintln(docker.Out(), args[0])
				return err
			},
		})
	}
}

// readData reads a file, or the standard input if the name is "-".
func readData(stdin io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name) // #nosec G304 -- the user's own
}

func updateSecret(ctx context.Context, api client.APIClient, name string, data []byte) error {
	found, err := api.SecretInspect(ctx, name, client.SecretInspectOptions{})
	if err != nil {
		return err
	}
	spec := found.Secret.Spec
	spec.Data = data
	_, err = api.SecretUpdate(ctx, found.Secret.ID, client.SecretUpdateOptions{Version: found.Secret.Version, Spec: spec})
	return err
}

func updateConfig(ctx context.Context, api client.APIClient, name string, data []byte) error {
	found, err := api.ConfigInspect(ctx, name, client.ConfigInspectOptions{})
	if err != nil {
		return err
	}
	spec := found.Config.Spec
	spec.Data = data
	_, err = api.ConfigUpdate(ctx, found.Config.ID, client.ConfigUpdateOptions{Version: found.Config.Version, Spec: spec})
	return err
}
