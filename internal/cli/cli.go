// Package cli is the docker command line, embedded, under whatever name the binary was called by. It reads its arguments and
// the environment and talks HTTP to a daemon; it writes to the terminal and to docker's own configuration folder.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	dockercli "github.com/docker/cli/cli"
	pluginmanager "github.com/docker/cli/cli-plugins/manager"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/command/commands"
	"github.com/moby/moby/client/pkg/versions"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Config is what the command line needs.
type Config struct {
	// Name is what the user typed: "shoal" or "docker".
	Name    string
	Version string
	// Commands are added to docker's own; may be nil.
	Commands []*cobra.Command
}

// Run executes the command that the process's arguments name, prints an error to standard error and returns the exit code.
func Run(ctx context.Context, c Config) int {
	err := run(ctx, c)
	if err == nil || errdefs.IsCanceled(err) {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, text)
	}
	var withCode dockercli.StatusError
	if errors.As(err, &withCode) && withCode.StatusCode != 0 {
		return withCode.StatusCode
	}
	return 1
}

func run(ctx context.Context, c Config) error {
	docker, err := command.NewDockerCli(command.WithBaseContext(ctx))
	if err != nil {
		return err
	}
	root := rootCommand(docker, c)
	top := rootFlags(root, docker)
	addServiceExec(root, docker)       //nolint:contextcheck // cobra gives commands theirs
	addSecretUpdate(root, docker)      //nolint:contextcheck // likewise
	root.AddCommand(newDoctor(docker)) //nolint:contextcheck // likewise
	root.AddCommand(newBackup(docker), newRestore(docker))
	cmd, args, err := top.HandleGlobalFlags()
	if err != nil {
		return err
	}
	if err := top.Initialize(); err != nil {
		return err
	}
	if len(args) > 0 {
		if _, _, err := cmd.Find(args); err != nil {
			plugin, err := pluginmanager.PluginRunCommand(docker, args[0], cmd)
			if err == nil {
				return plugin.Run()
			}
			if !errdefs.IsNotFound(err) {
				return err
			}
		}
	}
	cmd.SetArgs(args)
	return cmd.ExecuteContext(ctx)
}

func rootCommand(docker *command.DockerCli, c Config) *cobra.Command {
	root := &cobra.Command{
		Use:                   c.Name + " [OPTIONS] COMMAND [ARG...]",
		Short:                 "A cluster of containers on any number of machines",
		SilenceUsage:          true,
		SilenceErrors:         true,
		TraverseChildren:      true,
		DisableFlagsInUseLine: true,
		Version:               c.Version,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.ShowHelp(docker.Err())(cmd, args)
			}
			return fmt.Errorf("%s: unknown command: %[1]s %s\n\nRun '%[1]s --help' for more information", c.Name, args[0])
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return checkVersion(cmd, docker) },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(docker.In())
	root.SetOut(docker.Out())
	root.SetErr(docker.Err())
	root.AddCommand(c.Commands...)
	return root
}

func rootFlags(root *cobra.Command, docker *command.DockerCli) *dockercli.TopLevelCommand {
	opts, _ := dockercli.SetupRootCommand(root)
	root.Flags().BoolP("version", "v", false, "Print version information and quit")
	root.SetVersionTemplate("{{.Root.Name}} version {{.Version}}\n")
	commands.AddCommands(root, docker)
	return dockercli.NewTopLevelCommand(root, docker, opts, root.Flags())
}

// checkVersion refuses commands and flags that the daemon's API version does not have. The daemon is asked only when a command
// or flag demands a version.
func checkVersion(cmd *cobra.Command, docker *command.DockerCli) error {
	for c := cmd; c != nil; c = c.Parent() {
		if needs, ok := c.Annotations["version"]; ok && versions.LessThan(docker.CurrentVersion(), needs) {
			return fmt.Errorf("%s requires API version %s, but the Docker daemon API version is %s", cmd.CommandPath(), needs, docker.CurrentVersion())
		}
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		needs := strings.Join(f.Annotations["version"], "")
		if f.Changed && needs != "" && versions.LessThan(docker.CurrentVersion(), needs) {
			errs = append(errs, fmt.Errorf(`"--%s" requires API version %s, but the Docker daemon API version is %s`, f.Name, needs, docker.CurrentVersion()))
		}
	})
	return errors.Join(errs...)
}
