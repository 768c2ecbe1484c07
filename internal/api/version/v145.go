package version

import "slices"

// shortID is how many digits of a container's ID are its name on a network.
const shortID = 12

func changes145() []Change {
	return []Change{
		{Since: "1.45", Route: "POST /containers/create", What: "parts of volumes", Body: func(b *Body) error {
			for _, m := range children(child(b.object, "HostConfig"), "Mounts") {
				if text(child(m, "VolumeOptions"), "Subpath") != "" {
					return refusal("VolumeOptions.Subpath needs API v1.45 or newer")
				}
			}
			return nil
		}},
		{Since: "1.45", Route: "GET /containers/{id}/json", What: "aliases are those that were asked for; before, the container's short ID and hostname were among them", Answer: each(func(c object) {
			id := text(c, "Id")
			for name, e := range child(child(c, "NetworkSettings"), "Networks") {
				endpoint, ok := e.(object)
				if !ok || slices.Contains([]string{"bridge", "host", "none"}, name) {
					continue
				}
				aliases, _ := endpoint["Aliases"].([]any)
				for _, alias := range []any{id[:min(shortID, len(id))], text(child(c, "Config"), "Hostname")} {
					if alias != "" && !slices.Contains(aliases, alias) {
						aliases = append(aliases, alias)
					}
				}
				endpoint["Aliases"] = aliases
			}
		})},
		{Since: "1.45", Route: "GET /images/{name...}/json", What: "the container that an image was made of is gone", Answer: with(func() object {
			return object{"Container": "", "ContainerConfig": emptyConfig()}
		})},
	}
}

// emptyConfig is the configuration of a container that there never was: no image built today has one.
func emptyConfig() object {
	c := object{"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": ""}
	fill(c, containerFields())
	return c
}

// containerFields is what the configuration of a container has and that of an image has not.
func containerFields() object {
	return object{
		"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Domainname": "", "Hostname": "", "Image": "",
		"OpenStdin": false, "StdinOnce": false, "Tty": false,
	}
}
