// Command shoal is a node of a container cluster (`shoal daemon`, or under the name dockerd) and, with any other word, the docker command line. A
// node also starts it as the process that encrypts overlay traffic (`shoal wireguard`).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/shoal-dev/shoal/internal/cli"
	"github.com/shoal-dev/shoal/internal/daemon"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// version is set by the build.
var version = "0.1.0-dev"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	name := filepath.Base(os.Args[0])
	if len(os.Args) > 1 && os.Args[1] == wireguard.Word {
		if err := wireguard.Main(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if name == "dockerd" || (len(os.Args) > 1 && os.Args[1] == "daemon") {
		args := os.Args[1:]
		if name != "dockerd" {
			args = os.Args[2:]
		}
		cmd := daemon.Command(version)
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if name != "docker" {
		name = "shoal"
	}
	// The docker commands handle interrupts themselves (detaching, forwarding signals to containers).
	stop()
	return cli.Run(context.WithoutCancel(ctx), cli.Config{Name: name, Version: version})
}
