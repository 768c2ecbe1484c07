package version

import "slices"

func changes146() []Change {
	return slices.Concat([]Change{
		{Since: "1.46", Route: "GET /containers/json", What: "annotations", Answer: each(func(c object) { drop(child(c, "HostConfig"), "Annotations") })},
		{Since: "1.46", Route: "GET /events", What: "the creation of images", Answer: func(answer any) any {
			if e, ok := answer.(object); ok && e["Type"] == "image" && e["Action"] == "create" {
				return nil
			}
			return answer
		}},
		{Since: "1.46", Route: "GET /info", What: "where containerd is", Answer: without("Containerd")},
		{Since: "1.46", Route: "POST /images/{name...}/push", What: "the platform to push", Query: ignore("platform")},
	}, services(Change{Since: "1.46", What: "options of tmpfs mounts, and how soon a task is killed when memory runs out"}, func(spec object) {
		container := child(child(spec, "TaskTemplate"), "ContainerSpec")
		for _, m := range children(container, "Mounts") {
			drop(child(m, "TmpfsOptions"), "Options")
		}
		drop(container, "OomScoreAdj")
	}))
}

func changes147() []Change {
	return []Change{
		{Since: "1.47", Route: "GET /images/json", What: "the manifests of images", Query: ignore("manifests")},
		{Since: "1.47", Route: "GET /info", What: "registries that take layers which may not be distributed are gone", Answer: with(func() object {
			return object{"RegistryConfig": object{"AllowNondistributableArtifactsCIDRs": nil, "AllowNondistributableArtifactsHostnames": nil}}
		})},
	}
}
