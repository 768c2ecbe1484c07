package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// mask replaces something that differs from cluster to cluster by a fixed word.
type mask struct {
	what *regexp.Regexp
	with string
}

func masks(pairs ...string) []mask {
	var all []mask
	for pair := range slices.Chunk(pairs, 2) {
		all = append(all, mask{regexp.MustCompile(pair[0]), pair[1]})
	}
	return all
}

// identityMasks masks IDs, tokens and addresses; volatileMasks also what depends on the moment, on the machine, and on where tasks run.
func identityMasks() []mask {
	return masks(
		`SWMTKN-1-\S+`, "TOKEN",
		`\b[0-9a-f]{64}\b`, "HASH",
		`\b[0-9a-z]{25}\b`, "ID",
		`\b[0-9a-f]{12}\b`, "SHORT",
		`\b10\.77\.0\.\d+`, "ADDR",
		`Bad Name_\w+`, "Bad Name_NETWORK", // the CLI makes a stack's networks in whatever order
	)
}

func volatileMasks() []mask {
	return slices.Concat(identityMasks(), masks(
		`28\.5\.2\+dfsg4|\b0\.\d+\.\d+(-dev)?\b`, "VERSION",
		`(CPUs|Memory|Log|Network|Issuer Public Key):.*`, "$1:",
		`(?m)^ *[A-Za-z0-9+/=]{20,}$`, "", // of a certificate
		`\b[0-9a-z]{12}\b`, "SHORT",
		`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*( [+]0000 utc)?`, "TIME",
		`(?i)\b(less than a second|about a minute|about an hour|\d+ (seconds?|minutes?|hours?))\b`, "TIME",
		`\b(10|172)\.\d+\.\d+\.\d+`, "ADDR",
		`\b02:42(:[0-9a-f]{2}){4}\b`, "MAC",
		`localhost:1/no[^\s"]*("|…")|bl/nosuch:9"`, `NOSUCH"`,
		`localhost:1/no\S*|bl/nosuch:9`, "NOSUCH",
		`(?m)^.*\bsix\b.* swarm$`, "", // Docker never gets this network going, and so never shows its driver
		`(?m)^rollback: rollback completed$`, "", // the CLI says so only if it still waits for tasks then
		`,\{"NetworkID":"ID","Addr":"fd[^"]*"\}`, "", // the routing mesh has IPv6 here
		`; 1 node not available for new tasks`, "", // the transcripts' cluster had a fourth
		`(\*:\d+->\d+/tcp),\*:\d+->\d+/tcp`, "$1", // once for each family
		`(?m)^\d+: (eth\d)@if\d+: (.*noqueue)( qlen 1000)?`, "$1 $2",
		`\b[a-z]{4,}_[a-z]{4,}\b`, "RANDOM", // the name that a service without one is given
		`\bn[1-3]\b`, "NODE",
		`(?m)^\S+@?NODE +\| .*\n`, "", // the order of several tasks' log lines varies
		`(?m)^[ \d/]*overall progress: .*$`, "PROGRESS",
		`(?m)^ *\d+/\d+: .*$`, "TASK",
		`(\s\S+)\.\d+(\s+\S+\s+NODE\s)`, "$1.SLOT$2",
		`\b(Running|Ready)\s+(New|Pending|Allocated|Assigned|Accepted|Preparing|Ready|Starting|Running) TIME ago`, "ALIVE",
		// Docker replaces a task that is rejected while it waits when its time has come; here its successor waits beside it.
		`\bReady\s+Rejected TIME ago +".*"`, "ALIVE",
		`\bShutdown\s+(New|Pending|Allocated|Assigned|Accepted|Preparing|Ready|Starting|Running|Shutdown) TIME ago`, "DOWN",
		`(?m)^.*\\_ \S+\.SLOT .*(DOWN|NOSUCH).*$`, "", // how much of it is kept varies with the slots it was in
	))
}

func masked(text string, all []mask) []string {
	for _, m := range all {
		text = m.what.ReplaceAllString(text, m.with)
	}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// shape is a text with IDs, tokens and addresses masked.
func shape(text string) string { return strings.Join(masked(text, identityMasks()), "\n") }

// outline is the part of a command's output that is the same in every cluster: of JSON the fields and the types of their values, of a table or
// any other text the lines, masked and sorted.
func outline(text string) []string {
	if value, ok := decode(text); ok {
		fields := map[string]bool{}
		describe(value, "", fields)
		return slices.Sorted(maps.Keys(fields))
	}
	lines := masked(text, volatileMasks())
	slices.Sort(lines)
	return slices.Compact(lines)
}

func decode(text string) (any, bool) {
	var value any
	if text = strings.TrimSpace(text); text == "" || !strings.ContainsAny(text[:1], "[{") || json.Unmarshal([]byte(text), &value) != nil {
		return nil, false
	}
	return value, true
}

// keyed are the objects whose keys are names of things, not of fields.
var keyed = regexp.MustCompile(`\.(Containers|Labels|Networks|Services|Options|Volumes|Ports)$`)

func describe(value any, path string, into map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		into[path+" object"] = true
		for key, field := range v {
			if keyed.MatchString(path) && path != ".Spec.Labels" {
				key = "*"
			}
			describe(field, path+"."+key, into)
		}
	case []any:
		into[path+" array"] = true
		for _, item := range v {
			describe(item, path+"[]", into)
		}
	default:
		if !strings.HasSuffix(path, ".IPv6Enabled") { // the routing mesh has IPv6 here
			into[fmt.Sprintf("%s %T", path, v)] = true
		}
	}
}

// differences lists what only one of two outlines has.
func differences(docker, ours []string) []string {
	var all []string
	for _, line := range docker {
		if !slices.Contains(ours, line) {
			all = append(all, "- "+line)
		}
	}
	for _, line := range ours {
		if !slices.Contains(docker, line) {
			all = append(all, "+ "+line)
		}
	}
	return all
}
