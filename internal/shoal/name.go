package shoal

import (
	"math/rand/v2"
	"strconv"
)

// InventName makes up a name for a container or service that was given none: an adjective and a fish, such as "calm_trout".
// When that is taken, a random number follows, from a range that grows until a name is free.
func InventName(taken func(name string) bool) string {
	adjectives := [...]string{
		"brave", "brisk", "calm", "clever", "eager", "gentle", "glad", "happy", "jolly", "keen", "lively", "mellow", "merry",
		"nimble", "proud", "quick", "quiet", "steady", "sunny", "swift", "warm", "wise",
	}
	fish := [...]string{
		"anchovy", "bream", "carp", "char", "cod", "dace", "eel", "goby", "herring", "minnow", "mullet", "perch", "pike", "roach",
		"salmon", "sardine", "smelt", "sprat", "tench", "trout", "tuna",
	}
	for numbers := 0; ; numbers = max(10, 2*numbers) {
		name := adjectives[rand.IntN(len(adjectives))] + "_" + fish[rand.IntN(len(fish))]
		if numbers > 0 {
			name += strconv.Itoa(rand.IntN(numbers))
		}
		if !taken(name) {
			return name
		}
	}
}
