package version

import "strings"

func changes125() []Change {
	return []Change{
		{Since: "1.25", Route: "GET /info", What: "security options have keys; before, they were names only", Answer: each(func(info object) {
			options, _ := info["SecurityOptions"].([]any)
			for i, option := range options {
				options[i] = securityOptionName(option)
			}
		})},
		{Since: "1.25", Route: "GET /services", What: "networks are the task's; before, they were the service's too", Answer: each(serviceNetworks)},
		{Since: "1.25", Route: "GET /services/{id}", What: "as in the list", Answer: each(serviceNetworks)},
	}
}

// securityOptionName is the name of "name=seccomp,profile=builtin".
func securityOptionName(option any) any {
	s, _ := option.(string)
	name, _, _ := strings.Cut(strings.TrimPrefix(s, "name="), ",")
	return name
}

// serviceNetworks shows the networks of a service's tasks as those of the service.
func serviceNetworks(service object) {
	spec := child(service, "Spec")
	if networks, ok := child(spec, "TaskTemplate")["Networks"]; ok && spec["Networks"] == nil {
		spec["Networks"] = networks
	}
}
