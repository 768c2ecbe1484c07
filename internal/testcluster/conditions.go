package testcluster

import (
	"fmt"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Conditions for Eventually. Each returns what is wrong, as text; an empty text means that the condition holds.

// TasksOf is all tasks of a service, by its name.
func (c *Cluster) TasksOf(v store.View, service string) []*shoal.Task {
	s := v.ServiceByName(service)
	if s == nil {
		return nil
	}
	return v.TasksOfService(s.ID)
}

// RunningOf is the tasks of a service that run and are meant to.
func (c *Cluster) RunningOf(v store.View, service string) []*shoal.Task {
	var all []*shoal.Task
	for _, t := range c.TasksOf(v, service) {
		if t.DesiredState == shoal.TaskRunning && t.Status.State == shoal.TaskRunning {
			all = append(all, t)
		}
	}
	return all
}

// Runs holds when exactly n tasks of a service run, and no others are meant to.
func (c *Cluster) Runs(service string, n int) func(store.View) string {
	return func(v store.View) string {
		wanted := 0
		for _, t := range c.TasksOf(v, service) {
			if t.Wanted() && !t.Status.State.Ended() {
				wanted++
			}
		}
		if got := len(c.RunningOf(v, service)); got != n || wanted != n {
			return fmt.Sprintf("%d of %d tasks of %s run, want %d", got, wanted, service, n)
		}
		return ""
	}
}

// RunsAt holds when as many tasks of a service as wanted run on each machine, and their containers do.
func (c *Cluster) RunsAt(service string, want map[string]int) func(store.View) string {
	return func(v store.View) string {
		got := map[string]int{}
		for _, t := range c.RunningOf(v, service) {
			machine := c.nameOf(t.NodeID)
			got[machine]++
			if !c.Machine(machine).Runs(t.ID) {
				return fmt.Sprintf("task %s runs without a container on %s", t.ID, machine)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("tasks of %s run at %v, want %v", service, got, want)
		}
		return ""
	}
}

// Runs tells whether a task's container runs on the machine.
func (m *Machine) Runs(task shoal.TaskID) bool {
	for _, c := range m.Containers() {
		if c.TaskID == task && c.Running {
			return true
		}
	}
	return false
}

// Managers holds when these machines, and no others, are managers that vote and serve.
func (c *Cluster) Managers(want ...string) func(store.View) string {
	return func(v store.View) string {
		var got []string
		for _, m := range c.machines {
			n := v.Node(m.nodeID)
			if n == nil || n.Manager == nil || n.Role != shoal.RoleManager || n.Manager.MemberID == "" || !m.Info().IsManager || m.Store() == nil {
				continue
			}
			got = append(got, m.Name)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("managers are %v, want %v", got, want)
		}
		return ""
	}
}

// IsNode holds when a machine's node is in the state.
func (c *Cluster) IsNode(name string, want shoal.NodeState) func(store.View) string {
	return func(v store.View) string {
		n := v.Node(c.Machine(name).nodeID)
		if n == nil {
			return "there is no node " + name
		}
		if n.Status.State != want {
			return fmt.Sprintf("node %s is %s, want it %s", name, n.Status.State, want)
		}
		return ""
	}
}

// All holds when all of the conditions do.
func All(conditions ...func(store.View) string) func(store.View) string {
	return func(v store.View) string {
		for _, condition := range conditions {
			if why := condition(v); why != "" {
				return why
			}
		}
		return ""
	}
}

// OnlyWantedContainers says that no container runs that no task asks for, and that every task that runs has one.
func (c *Cluster) OnlyWantedContainers() func(store.View) string {
	return func(v store.View) string {
		running := map[shoal.TaskID]bool{}
		for _, m := range c.Machines() {
			for _, container := range m.Containers() {
				task := v.Task(container.TaskID)
				if container.Running && (task == nil || !task.Wanted()) {
					return fmt.Sprintf("container %s runs on %s for nobody", container.ID, m.Name)
				}
				running[container.TaskID] = running[container.TaskID] || container.Running
			}
		}
		for _, task := range v.Tasks() {
			if task.Status.State == shoal.TaskRunning && !running[task.ID] {
				return fmt.Sprintf("task %s runs without a container", task.ID)
			}
		}
		return ""
	}
}

// TablesAreRight holds when the kernels of all machines balance to the tasks of some services that are published in the routing mesh, and to no task that
// does not run.
func (c *Cluster) TablesAreRight(services ...string) func(store.View) string {
	return func(v store.View) string {
		for _, m := range c.machines {
			ready := m.kernel.ready()
			for _, service := range services {
				for _, t := range c.RunningOf(v, service) {
					if !ready[t.ID] {
						return fmt.Sprintf("%s does not balance to task %s", m.Name, t.ID)
					}
				}
			}
			for id := range ready {
				if t := v.Task(id); t == nil || t.Status.State != shoal.TaskRunning || !t.Wanted() {
					return fmt.Sprintf("%s balances to task %s, which does not run", m.Name, id)
				}
			}
		}
		return ""
	}
}
