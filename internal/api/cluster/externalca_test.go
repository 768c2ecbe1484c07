package cluster

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestExternalCAsAreKeptAndShown(t *testing.T) {
	asked := swarm.Spec{CAConfig: swarm.CAConfig{ExternalCAs: []*swarm.ExternalCA{{Protocol: "CFSSL", URL: "https://ca:8888/", Options: map[string]string{"a": "b"}, CACert: "pem"}}}}
	spec, err := fromAPIClusterSpec(asked)
	if err != nil {
		t.Fatal(err)
	}
	shown := toAPIClusterInfo(&shoal.Cluster{Spec: spec}).Spec.CAConfig.ExternalCAs
	if len(shown) != 1 || shown[0].Protocol != swarm.ExternalCAProtocolCFSSL || shown[0].URL != "https://ca:8888/" || shown[0].Options["a"] != "b" || shown[0].CACert != "pem" {
		t.Errorf("shown as %+v", shown)
	}
	asked.CAConfig.ExternalCAs[0].Protocol = "acme"
	if _, err := fromAPIClusterSpec(asked); err == nil || !strings.Contains(err.Error(), `invalid protocol: "acme"`) {
		t.Errorf("another protocol: %v", err)
	}
}
