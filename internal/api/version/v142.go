package version

import (
	"net/url"
	"slices"
)

func changes142() []Change {
	return slices.Concat([]Change{
		{Since: "1.42", Route: "POST /volumes/prune", What: "anonymous volumes only, unless all are asked for; before, all that nothing uses", Query: func(q url.Values) { addFilter(q, "all", "true") }},
		{Since: "1.42", Route: "POST /containers/{id}/stop", What: "the signal", Query: ignore("signal")},
		{Since: "1.42", Route: "POST /containers/{id}/restart", What: "the signal", Query: ignore("signal")},
		{Since: "1.42", Route: "POST /containers/create", What: "options of mounts must be those of the type, and a bind mount may make its source; the size of the terminal", Body: func(b *Body) error {
			host := child(b.object, "HostConfig")
			for _, m := range children(host, "Mounts") {
				mountOptions(m)
			}
			drop(host, "ConsoleSize")
			return nil
		}},
		{Since: "1.42", Route: "POST /containers/{id}/exec", What: "the size of the terminal", Body: ignoreFields("ConsoleSize")},
		{Since: "1.42", Route: "POST /exec/{id}/start", What: "the size of the terminal", Body: ignoreFields("ConsoleSize")},
		{Since: "1.42", Route: "GET /images/json", What: "how much images share", Query: ignore("shared-size")},
		{Since: "1.42", Route: "GET /system/df", What: "the kinds of objects to look at; the builder's size is gone", Query: ignore("type"), Answer: with(func() object { return object{"BuilderSize": 0} })},
	}, both(Change{Since: "1.42", What: "limits of kernel memory are gone; before, they could be asked for", Body: func(b *Body) error {
		drop(b.object, "KernelMemory")
		drop(child(b.object, "HostConfig"), "KernelMemory")
		return nil
	}}, "POST /containers/create", "POST /containers/{id}/update"), []Change{
		{Since: "1.42", Route: "GET /containers/{id}/json", What: "limits of kernel memory that are not set are left out", Answer: with(func() object {
			return object{"HostConfig": object{"KernelMemory": 0, "KernelMemoryTCP": 0}}
		})},
		{Since: "1.42", Route: "GET /info", What: "whether kernel memory can be limited is left out", Answer: with(func() object {
			return object{"KernelMemory": false, "KernelMemoryTCP": false}
		})},
	})
}

// mountOptions removes the options of a mount that are not those of its type.
func mountOptions(m object) {
	drop(child(m, "BindOptions"), "CreateMountpoint")
	for name, kind := range map[string]string{"VolumeOptions": "volume", "TmpfsOptions": "tmpfs", "BindOptions": "bind"} {
		if text(m, "Type") != kind {
			drop(m, name)
		}
	}
}
