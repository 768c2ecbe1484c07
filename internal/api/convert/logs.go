package convert

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// LogAttributes is the attributes of a line of a log in the form that clients are sent with details: "name=value,…", sorted, each escaped as in queries.
func LogAttributes(attributes map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, url.QueryEscape(key)+"="+url.QueryEscape(attributes[key]))
	}
	return strings.Join(pairs, ",")
}
