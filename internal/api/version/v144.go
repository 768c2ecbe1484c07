package version

import (
	"maps"
	"slices"
	"strings"
)

func changes144() []Change {
	return slices.Concat([]Change{
		{Since: "1.44", Route: "POST /containers/create", What: "several networks, a MAC address for each, the interval of health checks while a container starts, read-only mounts whose submounts are read-only too", Body: func(b *Body) error {
			drop(child(b.object, "Healthcheck"), "StartInterval")
			if err := readOnlyMounts(child(b.object, "HostConfig")); err != nil {
				return err
			}
			if endpoints := child(child(b.object, "NetworkingConfig"), "EndpointsConfig"); len(endpoints) > 1 {
				return refusal("Container cannot be created with multiple network endpoints: " + strings.Join(slices.Sorted(maps.Keys(endpoints)), ", "))
			}
			return macOfContainer(b)
		}},
		{Since: "1.44", Route: "GET /images/json", What: "the virtual size is gone", Answer: each(virtualSize)},
		{Since: "1.44", Route: "GET /images/{name...}/json", What: "the virtual size is gone; a time that is not known is left out", Answer: each(func(image object) {
			virtualSize(image)
			fill(image, object{"Created": "0001-01-01T00:00:00Z"})
		})},
		{Since: "1.44", Route: "GET /system/df", What: "the virtual size is gone", Answer: each(func(usage object) {
			for _, image := range children(usage, "Images") {
				virtualSize(image)
			}
		})},
		{Since: "1.44", Route: "GET /info", What: "runtimes have a status", Answer: each(func(info object) {
			for _, runtime := range child(info, "Runtimes") {
				if r, ok := runtime.(object); ok {
					drop(r, "status")
				}
			}
		})},
	}, services(Change{Since: "1.44", What: "seccomp, AppArmor and no new privileges of services; networks are the task's, before, they could be the service's"}, func(spec object) {
		task := child(spec, "TaskTemplate")
		container := child(task, "ContainerSpec")
		drop(child(container, "Privileges"), "Seccomp", "AppArmor", "NoNewPrivileges")
		drop(child(container, "Healthcheck"), "StartInterval")
		if networks := spec["Networks"]; networks != nil && task != nil && task["Networks"] == nil {
			task["Networks"] = networks
			drop(spec, "Networks")
		}
	}))
}

func virtualSize(image object) {
	if size, ok := image["Size"]; ok {
		image["VirtualSize"] = size
	}
}

// readOnlyMounts keeps read-only mounts as they were: their submounts could be written. Who asks that they cannot must not be told that it is so.
func readOnlyMounts(host object) error {
	for _, m := range children(host, "Mounts") {
		if text(m, "Type") != "bind" {
			continue
		}
		if child(m, "BindOptions")["ReadOnlyForceRecursive"] == true {
			return refusal("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
		}
		if m["ReadOnly"] == true {
			ensure(m, "BindOptions")["ReadOnlyNonRecursive"] = true
		}
	}
	return nil
}

// macOfContainer turns the MAC address of a container into that of its network. That of a network could not be asked for.
func macOfContainer(b *Body) error {
	mac := text(b.object, "MacAddress")
	drop(b.object, "MacAddress")
	for _, e := range child(child(b.object, "NetworkingConfig"), "EndpointsConfig") {
		if endpoint, ok := e.(object); ok {
			drop(endpoint, "MacAddress")
		}
	}
	if mac == "" {
		return nil
	}
	endpoint := mainEndpoint(b)
	if endpoint == nil {
		return refusal("conflicting options: mac-address and the network mode")
	}
	endpoint["MacAddress"] = mac
	return nil
}

// mainEndpoint is the settings of the network that a container's network mode names, made if there are none; nil if the container has no network of its own.
func mainEndpoint(b *Body) object {
	mode := text(child(b.object, "HostConfig"), "NetworkMode")
	switch {
	case mode == "none" || mode == "host" || strings.HasPrefix(mode, "container:"):
		return nil
	case mode == "":
		mode = "default"
	}
	endpoints := ensure(ensure(b.object, "NetworkingConfig"), "EndpointsConfig")
	for _, name := range []string{mode, "default", "bridge"} {
		isDefault := mode == "default" || mode == "bridge"
		if e, ok := endpoints[name].(object); ok && (name == mode || isDefault) {
			return e
		}
	}
	return ensure(endpoints, mode)
}
