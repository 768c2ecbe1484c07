package version

func changes149() []Change {
	return []Change{
		{Since: "1.49", Route: "GET /images/{name...}/json", What: "the platform", Query: ignore("platform")},
		{Since: "1.49", Route: "GET /info", What: "what filters packets; the commits that were expected of programs are gone", Answer: each(func(info object) {
			drop(info, "FirewallBackend")
			for _, program := range []string{"ContainerdCommit", "RuncCommit", "InitCommit"} {
				c := ensure(info, program)
				c["Expected"] = text(c, "ID")
			}
		})},
	}
}

func changes150() []Change {
	return []Change{
		{Since: "1.50", Route: "GET /info", What: "devices that drivers know; whether bridges' packets are filtered is gone", Answer: each(func(info object) {
			drop(info, "DiscoveredDevices")
			fill(info, object{"BridgeNfIptables": false, "BridgeNfIp6tables": false})
		})},
		{Since: "1.50", Route: "DELETE /images/{name...}", What: "the platforms to remove", Query: ignore("platforms")},
		{Since: "1.50", Route: "GET /images/{name...}/json", What: "what only containers have is gone from an image's configuration", Answer: with(func() object {
			return object{"Config": containerFields()}
		})},
	}
}

func changes151() []Change {
	return []Change{
		{Since: "1.51", Route: "GET /images/json", What: "how many containers use an image; before, it was not known", Answer: each(func(image object) { image["Containers"] = -1 })},
	}
}
