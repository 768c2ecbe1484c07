package version

func changes130() []Change {
	return []Change{
		{Since: "1.30", Route: "POST /containers/{id}/wait", What: "the condition to wait for; before, it was that the container does not run", Query: ignore("condition")},
	}
}

func changes132() []Change {
	return []Change{
		{Since: "1.32", Route: "POST /images/create", What: "the platform to pull for", Query: ignore("platform")},
	}
}

func changes137() []Change {
	return both(Change{Since: "1.37", What: "templates in secrets and configs", Body: func(b *Body) error {
		if b.object["Templating"] != nil {
			return refusal("templating is not supported on the specified API version: 1.37 or newer is needed")
		}
		return nil
	}}, "POST /secrets/create", "POST /configs/create")
}

func changes139() []Change {
	return []Change{
		{Since: "1.39", Route: "POST /swarm/init", What: "the pool of addresses for overlay networks", Body: ignoreFields("DefaultAddrPool", "SubnetSize")},
		{Since: "1.39", Route: "GET /info", What: "an unknown kernel or system is empty; before, it was <unknown>", Answer: each(func(info object) {
			for _, name := range []string{"KernelVersion", "OperatingSystem"} {
				if text(info, name) == "" {
					info[name] = "<unknown>"
				}
			}
		})},
	}
}
