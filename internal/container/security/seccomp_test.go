package security

import (
	"strings"
	"testing"
)

func TestX32IsLeftOutOnlyForKernelsThatSurelyLackIt(t *testing.T) {
	for config, want := range map[string]bool{
		"CONFIG_X86_64=y\n# CONFIG_X86_X32_ABI is not set\n": false,
		"CONFIG_X86_X32_ABI=y\n":                             true,
		"CONFIG_ARM64=y\n":                                   true,
		"":                                                   true,
	} {
		if got := configuredX32(strings.NewReader(config)); got != want {
			t.Errorf("%q: got %v, want %v", config, got, want)
		}
	}
}
