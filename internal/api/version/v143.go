package version

func changes143() []Change {
	return []Change{
		{Since: "1.43", Route: "POST /containers/create", What: "annotations", Body: func(b *Body) error {
			drop(child(b.object, "HostConfig"), "Annotations")
			return nil
		}},
		{Since: "1.43", Route: "GET /images/json", What: "an image without a name has no names; before, it had <none>:<none>", Answer: each(func(image object) {
			tags, _ := image["RepoTags"].([]any)
			digests, _ := image["RepoDigests"].([]any)
			if len(tags)+len(digests) == 0 {
				image["RepoTags"], image["RepoDigests"] = []any{"<none>:<none>"}, []any{"<none>@<none>"}
			}
		})},
	}
}
