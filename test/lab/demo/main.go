// Command demo brings three nodes up on this machine, runs a service on the routing mesh, shows it answering on every node and
// leaves the cluster up to play with until it is told to stop.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/test/images"
	"github.com/shoal-dev/shoal/test/lab"
)

func main() {
	stay := flag.Bool("stay", true, "keep the cluster up until interrupted")
	dir := flag.String("dir", "/tmp/shoal-demo", "where the nodes keep their data")
	bare := flag.Bool("bare", false, "only nodes and images: no cluster")
	name := flag.String("name", "demo", "tells labs on one machine apart")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *name, *dir, *stay, *bare); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name, dir string, stay, bare bool) (err error) {
	binary, err := filepath.Abs("bin/shoal")
	if err != nil {
		return err
	}
	say("Building the images busybox and nginx from Debian's packages")
	archives, err := images.Build(ctx, images.CacheDir())
	if err != nil {
		return err
	}
	if err := lab.Sweep(name, dir); err != nil {
		return fmt.Errorf("clean up after an earlier demo: %w", err)
	}
	l, err := lab.New(name, dir, binary)
	if err != nil {
		return err
	}
	defer func() {
		say("Stopping: removing nodes, networks and data")
		if closeErr := l.Close(); err == nil {
			err = closeErr
		}
	}()
	say("Starting three nodes, each a network namespace with its own daemon")
	for i := range 3 {
		n, err := l.AddNode(fmt.Sprintf("n%d", i+1), 11+i)
		if err != nil {
			return err
		}
		for _, archive := range archives {
			if err := show(ctx, n, false, "image", "load", "-q", "-i", archive); err != nil {
				return err
			}
		}
	}
	client, err := l.AddHost("client", 100)
	if err != nil {
		return err
	}
	if !bare {
		if err := cluster(ctx, l, client); err != nil {
			return err
		}
	}
	if stay {
		howToPlay(l, client)
		<-ctx.Done()
	}
	return nil
}

// cluster is the main job: three machines become one, and a service answers on all of them.
func cluster(ctx context.Context, l *lab.Lab, client *lab.Host) error {
	n1 := l.Nodes()[0]
	if err := show(ctx, n1, true, "swarm", "init", "--advertise-addr", n1.Addr); err != nil {
		return err
	}
	token := strings.TrimSpace(n1.Docker(ctx, "swarm", "join-token", "-q", "worker").Stdout)
	for _, n := range l.Nodes()[1:] {
		if err := show(ctx, n, true, "swarm", "join", "--token", token, n1.Addr+":2377"); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"node", "ls"},
		{"service", "create", "--name", "my-web", "--publish", "published=8080,target=80", "--replicas", "2", "nginx"},
		{"service", "ps", "my-web"},
	} {
		if err := show(ctx, n1, true, args...); err != nil {
			return err
		}
	}
	say("The routing mesh answers on every node, with or without a task there")
	get := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: client.Dial, DisableKeepAlives: true}}
	for _, n := range l.Nodes() {
		url := "http://" + n.Addr + ":8080/"
		resp, err := get.Get(url)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		title, _, _ := strings.Cut(strings.SplitN(string(body)+"<title>", "<title>", 2)[1], "</title>")
		fmt.Printf("client$ curl %s\n%s  %s\n", url, resp.Status, title)
	}
	return nil
}

func say(text string) { fmt.Printf("\n== %s\n", text) }

// show runs a docker command and, if asked, prints it as a user would see it.
func show(ctx context.Context, n *lab.Node, visible bool, args ...string) error {
	r := n.Docker(ctx, args...)
	if r.Code != 0 {
		return fmt.Errorf("%s$ docker %s: %s", n.Name, strings.Join(args, " "), r.Text())
	}
	if visible {
		fmt.Printf("\n%s$ docker %s\n%s\n", n.Name, strings.Join(args, " "), r.Text())
	}
	return nil
}

func howToPlay(l *lab.Lab, client *lab.Host) {
	say("Yours to play with")
	for _, n := range l.Nodes() {
		fmt.Printf("%s   docker -H unix://%s ps\n", n.Name, n.Socket())
	}
	n1 := l.Nodes()[0]
	fmt.Printf(`
scale     docker -H unix://%[1]s service scale my-web=4
watch     docker -H unix://%[1]s service ps my-web
fetch     nsenter --net=%[2]s curl -s http://%[3]s:8080/ | head
stop      Ctrl-C here
`, n1.Socket(), client.Namespace(), n1.Addr)
}
