package version

import "slices"

func changes140() []Change {
	return slices.Concat([]Change{
		{Since: "1.40", Route: "POST /swarm/init", What: "the port of the data path", Body: ignoreFields("DataPathPort")},
		{Since: "1.40", Route: "POST /containers/create", What: "bind mounts that are not recursive; a container's IPC namespace is private unless it asks for another, before, others could share it", Body: func(b *Body) error {
			host := ensure(b.object, "HostConfig")
			for _, m := range children(host, "Mounts") {
				drop(child(m, "BindOptions"), "NonRecursive")
			}
			if text(host, "IpcMode") == "" {
				host["IpcMode"] = "shareable"
			}
			return nil
		}},
		{Since: "1.40", Route: "POST /containers/{id}/update", What: "a limit of processes", Body: ignoreFields("PidsLimit")},
	}, services(Change{Since: "1.40", What: "sysctls of services, configs for the runtime and as credential specs, the most replicas on a node"}, func(spec object) {
		container := child(child(spec, "TaskTemplate"), "ContainerSpec")
		drop(container, "Sysctls")
		drop(child(child(container, "Privileges"), "CredentialSpec"), "Config")
		for _, config := range children(container, "Configs") {
			drop(config, "Runtime")
		}
		drop(child(child(spec, "TaskTemplate"), "Placement"), "MaxReplicas")
	}))
}

// services is a change of the spec in requests that create or update a service.
func services(c Change, change func(spec object)) []Change {
	c.Body = func(b *Body) error {
		change(b.object)
		return nil
	}
	return both(c, "POST /services/create", "POST /services/{id}/update")
}
