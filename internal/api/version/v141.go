package version

import (
	"encoding/json"
	"net/url"
	"slices"
)

func changes141() []Change {
	return slices.Concat([]Change{
		{Since: "1.41", Route: "POST /containers/create", What: "the platform of the image", Query: ignore("platform")},
		{Since: "1.41", Route: "GET /containers/{id}/stats", What: "one sample without the one before it", Query: ignore("one-shot")},
		{Since: "1.41", Route: "GET /services", What: "counts of tasks", Query: ignore("status")},
		{Since: "1.41", Route: "GET /images/json", What: "the parameter filter is gone; before, it was a pattern of references", Query: filterReference},
	}, services(Change{Since: "1.41", What: "capabilities, ulimits and a limit of processes of services; jobs"}, func(spec object) {
		task := child(spec, "TaskTemplate")
		drop(child(task, "ContainerSpec"), "CapabilityAdd", "CapabilityDrop", "Ulimits")
		drop(child(child(task, "Resources"), "Limits"), "Pids")
		drop(child(spec, "Mode"), "ReplicatedJob", "GlobalJob")
	}))
}

// filterReference turns the parameter filter into the filter "reference".
func filterReference(q url.Values) {
	pattern := q.Get("filter")
	if pattern == "" {
		return
	}
	addFilter(q, "reference", pattern)
}

// addFilter adds a filter to those of a request, unless it has one of that name.
func addFilter(q url.Values, name, value string) {
	filters := object{}
	if have := q.Get("filters"); have != "" && json.Unmarshal([]byte(have), &filters) != nil {
		return // which the resource refuses
	}
	if _, ok := filters[name]; ok {
		return
	}
	// The newer form of filters has sets, the older one lists; one request has one form.
	filters[name] = object{value: true}
	for other, values := range filters {
		if _, list := values.([]any); list && other != name {
			filters[name] = []string{value}
		}
	}
	encoded, err := json.Marshal(filters)
	if err != nil {
		return // strings and lists of them have an encoding
	}
	q.Set("filters", string(encoded))
}
