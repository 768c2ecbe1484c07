package version

import "slices"

func changes152() []Change {
	return slices.Concat([]Change{
		{Since: "1.52", Route: "GET /events", What: "the fields status, id and from are gone", Answer: each(legacyEvent)},
		{Since: "1.52", Route: "GET /networks/{id}", What: "how addresses are used", Answer: without("Status")},
		{Since: "1.52", Route: "POST /containers/create", What: "a container has no MAC address, its networks have", Body: macOfMainNetwork},
		{Since: "1.52", Route: "GET /containers/{id}/json", What: "how the file system is stored; the storage driver is gone. The addresses of the main network and its MAC address are still there, for scripts read them", Answer: each(legacyContainer)},
		{Since: "1.52", Route: "GET /images/{name...}/json", What: "what is empty is left out", Answer: with(func() object {
			return object{"Parent": "", "Comment": "", "DockerVersion": "", "Author": "", "GraphDriver": object{"Name": "overlayfs", "Data": nil}, "Config": object{
				"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
			}}
		})},
		{Since: "1.52", Route: "GET /system/df", What: "usage by kind, and details only where they are asked for", Answer: without("ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage")},
	}, services(Change{Since: "1.52", What: "swap of services"}, func(spec object) {
		drop(child(child(spec, "TaskTemplate"), "Resources"), "SwapBytes", "MemorySwappiness")
	}))
}

func changes154() []Change {
	return []Change{
		{Since: "1.54", Route: "POST /networks/{id}/connect", What: "the MAC address", Body: func(b *Body) error {
			drop(child(b.object, "EndpointConfig"), "MacAddress")
			return nil
		}},
	}
}

func changes155() []Change {
	return []Change{
		{Since: "1.55", Route: "POST /containers/{id}/update", What: "block IO limits of devices", Body: ignoreFields(
			"BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps")},
	}
}

// legacyEvent adds what events had before they had types. Only events of containers and images had it.
func legacyEvent(e object) {
	actor := child(e, "Actor")
	switch e["Type"] {
	case "container":
		e["status"], e["id"], e["from"] = e["Action"], actor["ID"], text(child(actor, "Attributes"), "image")
	case "image":
		e["status"], e["id"] = e["Action"], actor["ID"]
	}
}

// legacyContainer adds what the inspection of a container had.
func legacyContainer(c object) {
	if snapshot := child(child(child(c, "Storage"), "RootFS"), "Snapshot"); snapshot != nil {
		c["GraphDriver"] = object{"Name": snapshot["Name"], "Data": nil}
		drop(c, "Storage")
	}
	fill(c, object{"Config": object{"OnBuild": nil}, "NetworkSettings": object{
		"Bridge": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": nil, "SecondaryIPv6Addresses": nil,
	}})
}

// macOfMainNetwork turns the MAC address of a container into that of its main network.
func macOfMainNetwork(b *Body) error {
	mac := text(b.object, "MacAddress")
	drop(b.object, "MacAddress")
	if mac == "" {
		return nil
	}
	b.Warnings = append(b.Warnings, "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.")
	endpoint := mainEndpoint(b)
	if endpoint == nil {
		return nil
	}
	if have := text(endpoint, "MacAddress"); have != "" && have != mac {
		return refusal("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	endpoint["MacAddress"] = mac
	return nil
}
