package vm

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// works tells what does not work: the objects that were acknowledged, the containers, the services, the published port.
func (n *node) works() error {
	containers, err := n.kept()
	if err != nil {
		return err
	}
	if err := n.containersRun(containers); err != nil {
		return err
	}
	if err := n.servicesRun(runningTasks(containers)); err != nil {
		return err
	}
	return n.answers()
}

// kept tells what is not as the daemon has acknowledged it, and returns its containers.
func (n *node) kept() ([]listed, error) {
	lines, err := n.machine.Told()
	if err != nil {
		return nil, err
	}
	if err := n.ledger.Enter(lines); err != nil {
		return nil, err
	}
	there, containers, err := n.objects()
	if err != nil {
		return nil, err
	}
	if wrong := n.ledger.Compare(there); len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return containers, nil
}

// containersRun tells of a container that was started and does not run.
func (n *node) containersRun(containers []listed) error {
	for _, name := range n.ledger.Acknowledged("container") {
		i := slices.IndexFunc(containers, func(c listed) bool { return slices.Contains(c.Names, "/"+name) })
		if i < 0 {
			return fmt.Errorf("container %s is not there", name)
		}
		if state := containers[i].State; state != "running" {
			return fmt.Errorf("container %s is %s", name, state)
		}
	}
	return nil
}

// runningTasks is the IDs of the tasks whose containers run.
func runningTasks(containers []listed) map[string]bool {
	running := map[string]bool{}
	for _, c := range containers {
		if c.State == "running" {
			running[c.Labels[taskLabel]] = true
		}
	}
	return running
}

// servicesRun tells of a service that was acknowledged and lacks tasks. What the cluster knows of a task may be from before the power went: its container
// must run as well.
func (n *node) servicesRun(containers map[string]bool) error {
	var tasks []struct {
		ID, ServiceID, DesiredState string
		Status                      struct{ State string }
	}
	if err := n.get("/tasks", &tasks); err != nil {
		return err
	}
	for _, name := range n.ledger.Acknowledged("service") {
		want := 1
		if name == n.web() {
			want = n.tasks
		}
		running := 0
		for _, task := range tasks {
			if task.ServiceID == n.ledger.Identity("service "+name) && task.DesiredState == "running" && task.Status.State == "running" && containers[task.ID] {
				running++
			}
		}
		if running != want {
			return fmt.Errorf("service %s: %d of %d tasks run", name, running, want)
		}
	}
	return nil
}

// page is what the service answers: the secret and the content of the volume that it was given.
const page = "a secret of the service\ncontent-of-web"

// answers asks the published port from outside and by addresses as they are in the machine, and the service by its name from a container on its network.
func (n *node) answers(addresses ...string) error {
	for _, addr := range append(addresses, "127.0.0.1", n.machine.Address()) {
		url := "http://" + addr + ":8080"
		out, err := n.try("curl -sSf --max-time 20 " + url + "/secret " + url + "/volume/content")
		if err != nil || out != page {
			return fmt.Errorf("published port of %s: %q, %w", addr, out, err)
		}
	}
	if n.machine.Published != "" {
		if err := n.answersOutside(); err != nil {
			return fmt.Errorf("published port, from outside: %w", err)
		}
	}
	out, err := n.try("shoal exec " + n.onOverlay() + " timeout 20 wget -q -O - http://" + n.web() + "/secret")
	if err != nil || !strings.HasPrefix(page, out+"\n") {
		return fmt.Errorf("from a container on the overlay: %q, %w", out, err)
	}
	return nil
}

func (n *node) answersOutside() error {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + n.machine.Published + "/volume/content")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || !strings.HasSuffix(page, "\n"+strings.TrimSpace(string(body))) {
		return fmt.Errorf("%s, %q, %w", answer.Status, body, err)
	}
	return nil
}
