package vm

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/test/vm/ledger"
)

// api is the command that asks the daemon.
func api(path string) string {
	return "curl -sf --max-time 60 --unix-socket /var/run/docker.sock http://d" + path
}

// get asks the daemon and decodes its answer.
func (n *node) get(path string, out any) error {
	text, err := n.try(api(path))
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

// listed is an object in a list of the API.
type listed struct {
	ID     string // Id of some kinds
	Name   string
	Names  []string
	Spec   struct{ Name string }
	Labels map[string]string
	State  string
}

// objects is what the daemon has of the kinds that ledgers are about, and its containers.
func (n *node) objects() (ledger.Objects, []listed, error) {
	there := ledger.Objects{}
	if err := n.volumes(there); err != nil {
		return nil, nil, err
	}
	for _, kind := range []string{"network", "secret", "service"} {
		var list []listed
		if err := n.get("/"+kind+"s", &list); err != nil {
			return nil, nil, err
		}
		for _, v := range list {
			name := v.Name + v.Spec.Name // one of them is empty
			switch {
			case kind == "network" && slices.Contains([]string{"bridge", "host", "none", "ingress", "docker_gwbridge"}, name):
			case kind == "network" && v.Labels["n"] != name:
				n.enter(there, kind, name, "without its label")
			default:
				n.enter(there, kind, name, v.ID)
			}
		}
	}
	var containers []listed
	if err := n.get("/containers/json?all=1", &containers); err != nil {
		return nil, nil, err
	}
	for _, v := range containers {
		if v.Labels[taskLabel] == "" && len(v.Names) > 0 {
			n.enter(there, "container", strings.TrimPrefix(v.Names[0], "/"), v.ID)
		}
	}
	return there, containers, nil
}

// taskLabel is on containers that are tasks.
const taskLabel = "com.docker.swarm.task.id"

// enter enters what there is if it is this node's.
func (n *node) enter(there ledger.Objects, kind, name, identity string) {
	if strings.HasPrefix(name, n.prefix) {
		there[kind+" "+name] = identity
	}
}

// noContent is in place of the content of a volume that has none.
const noContent = "empty"

// volumes enters the volumes by their content: the file "content" in them.
func (n *node) volumes(there ledger.Objects) error {
	var list struct {
		Volumes []struct {
			Name, Mountpoint string
			Labels           map[string]string
		}
	}
	if err := n.get("/volumes", &list); err != nil {
		return err
	}
	var read strings.Builder
	read.WriteString("true")
	for _, v := range list.Volumes {
		read.WriteString("; f=" + v.Mountpoint + "/content; if [ -s $f ]; then cat $f; else echo " + noContent + "; fi")
	}
	out, err := n.try(read.String())
	if err != nil {
		return err
	}
	contents := strings.Split(out, "\n")
	for i, v := range list.Volumes {
		content := "without its label"
		if v.Labels["n"] == v.Name && i < len(contents) {
			content = contents[i]
		}
		n.enter(there, "volume", v.Name, content)
	}
	return nil
}
