package api

import (
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// maxReplicas is more tasks than any cluster runs of one service.
const maxReplicas = 1 << 17

const (
	defaultMonitor = 5 * time.Second
	minMemory      = 4 << 20
	minNanoCPUs    = 1e6
	maxNameLength  = 63
)

var dnsName = regexp.MustCompile(`^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$`)

// checkService refuses a spec that could never work, in Docker's words.
func checkService(s shoal.ServiceSpec) error {
	switch {
	case !dnsName.MatchString(s.Name):
		return shoal.InvalidArgument("name must be valid as a DNS name component")
	case len(s.Name) > maxNameLength:
		return shoal.InvalidArgument("name must be 63 characters or fewer")
	}
	for _, check := range []func(shoal.ServiceSpec) error{checkResources, checkPlacement, checkContainer, checkUpdates, checkEndpoint, checkPublish, checkReady, checkReplicas, checkJob} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkResources(s shoal.ServiceSpec) error {
	r := s.Task.Resources
	if r == nil {
		return nil
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness != -1 {
		return shoal.InvalidArgument("memory swappiness: not supported by this engine")
	}
	var amounts [][2]int64 // CPU, memory
	if r.Limits != nil {
		amounts = append(amounts, [2]int64{r.Limits.NanoCPUs, r.Limits.MemoryBytes})
	}
	if r.Reservations != nil {
		amounts = append(amounts, [2]int64{r.Reservations.NanoCPUs, r.Reservations.MemoryBytes})
	}
	for _, a := range amounts {
		if a[0] != 0 && a[0] < minNanoCPUs {
			return shoal.InvalidArgument("invalid cpu value %g: Must be at least %g", float64(a[0])/1e9, float64(minNanoCPUs)/1e9)
		}
		if a[1] != 0 && a[1] < minMemory {
			return shoal.InvalidArgument("invalid memory value %d: Must be at least 4MiB", a[1])
		}
	}
	return nil
}

func checkPlacement(s shoal.ServiceSpec) error {
	if r := s.Task.Restart; r != nil {
		if r.Delay != nil && *r.Delay < 0 {
			return shoal.InvalidArgument("TaskSpec: restart-delay cannot be negative")
		}
		if r.Window != nil && *r.Window < 0 {
			return shoal.InvalidArgument("TaskSpec: restart-window cannot be negative")
		}
	}
	if p := s.Task.Placement; p != nil {
		if _, err := shoal.ParseConstraints(p.Constraints); err != nil {
			return shoal.Unknown("%s", err.Error())
		}
	}
	return nil
}

func checkContainer(s shoal.ServiceSpec) error {
	c := s.Task.Container
	if c == nil {
		return shoal.InvalidArgument("TaskSpec: missing runtime")
	}
	if c.Image == "" {
		return shoal.InvalidArgument("ContainerSpec: image reference must be provided")
	}
	if _, err := reference.ParseNormalizedNamed(c.Image); err != nil {
		return shoal.InvalidArgument("ContainerSpec: %q is not a valid repository/tag", c.Image)
	}
	for _, check := range []func(*shoal.ContainerSpec) error{checkTemplates, checkMounts, checkFiles, checkLimits, checkHealth} {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func checkUpdates(s shoal.ServiceSpec) error {
	for _, u := range []*shoal.UpdateConfig{s.Update, s.Rollback} {
		switch {
		case u == nil:
		case u.Delay < 0:
			return shoal.InvalidArgument("TaskSpec: update-delay cannot be negative")
		case u.Monitor < 0:
			return shoal.InvalidArgument("TaskSpec: update-monitor cannot be negative")
		case u.MaxFailureRatio < 0 || u.MaxFailureRatio > 1:
			return shoal.InvalidArgument("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")
		}
	}
	return nil
}

func checkEndpoint(s shoal.ServiceSpec) error {
	if s.Endpoint == nil {
		return nil
	}
	type published struct {
		port     uint16
		protocol shoal.Protocol
	}
	seen := map[published]bool{}
	for _, p := range s.Endpoint.Ports {
		if s.Endpoint.Mode == shoal.ResolveDNSRR && p.Mode == shoal.PublishIngress {
			return shoal.InvalidArgument("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
		}
		key := published{p.Published, p.Protocol}
		if p.Published != 0 && seen[key] {
			return shoal.InvalidArgument("EndpointSpec: duplicate published ports provided")
		}
		seen[key] = true
	}
	return nil
}

// checkPublish refuses labels that are meant for published ports and make no sense there.
func checkPublish(s shoal.ServiceSpec) error {
	var ports []shoal.Port
	if s.Endpoint != nil {
		ports = s.Endpoint.Ports
	}
	if _, err := shoal.PublishRules(s.Labels, ports); err != nil {
		return shoal.InvalidArgument("%v", err)
	}
	return nil
}

// checkReady refuses labels that are meant for a readiness check and make none.
func checkReady(s shoal.ServiceSpec) error {
	if _, err := shoal.ReadyCheckOf(s.Labels); err != nil {
		return shoal.InvalidArgument("%v", err)
	}
	return nil
}

// checkReplicas refuses numbers that only a slip can mean, before a manager makes so many tasks.
func checkReplicas(s shoal.ServiceSpec) error {
	numbers := []*uint64{}
	if m := s.Mode.Replicated; m != nil {
		numbers = append(numbers, m.Replicas)
	}
	if m := s.Mode.ReplicatedJob; m != nil {
		numbers = append(numbers, m.MaxConcurrent, m.TotalCompletions)
	}
	for _, n := range numbers {
		if n != nil && *n > maxReplicas {
			return shoal.InvalidArgument("number of tasks must be %d or fewer", maxReplicas)
		}
	}
	return nil
}

func checkJob(s shoal.ServiceSpec) error {
	if !s.Mode.IsJob() {
		return nil
	}
	if s.Update != nil {
		return shoal.InvalidArgument("UpdateConfig cannot be set on a job")
	}
	if s.Endpoint.HasIngressPort() {
		return shoal.InvalidArgument("jobs cannot publish ports in ingress mode")
	}
	return nil
}

// resolveReferences refuses secrets and configs that are not there and notes which generation of the others' data is meant.
func resolveReferences(v store.View, c *shoal.ContainerSpec) (*shoal.ContainerSpec, error) {
	if c == nil {
		return nil, nil
	}
	next := *c
	next.Secrets, next.Configs = slices.Clone(c.Secrets), slices.Clone(c.Configs)
	for i, ref := range next.Secrets {
		secret := v.Secret(ref.ID)
		if secret == nil {
			return nil, shoal.InvalidArgument("secret not found: %s", ref.Name)
		}
		next.Secrets[i].Generation = secret.Generation
	}
	for i, ref := range next.Configs {
		config := v.Config(ref.ID)
		if config == nil {
			return nil, shoal.InvalidArgument("config not found: %s", ref.Name)
		}
		next.Configs[i].Generation = config.Generation
	}
	return &next, nil
}

// resolveNetworks turns names into IDs. Each node's own host and bridge networks keep their names.
func resolveNetworks(v store.View, asked []shoal.NetworkAttachmentSpec) ([]shoal.NetworkAttachmentSpec, error) {
	out := slices.Clone(asked)
	for i, a := range out {
		switch a.Target {
		case shoal.DriverHost, shoal.DriverBridge, "none":
			continue
		}
		n, err := find("network", a.Target, v.Network, one(v.NetworkByName), v.NetworksByPrefix)
		if err != nil {
			return nil, err
		}
		if n.Spec.Ingress {
			return nil, shoal.InvalidArgument("Service cannot be explicitly attached to the ingress network %s", strconv.Quote(n.Spec.Name))
		}
		if n.Err != "" {
			return nil, fail(http.StatusConflict, "network %s has no subnet: %s", n.Spec.Name, n.Err)
		}
		out[i].Target = n.ID
	}
	return out, nil
}

// checkMesh refuses ports on a routing mesh that is not there.
func checkMesh(v store.View, spec *shoal.EndpointSpec) error {
	if spec.HasIngressPort() && v.IngressNetwork() == nil {
		return shoal.FailedPrecondition("service needs ingress network, but no ingress network is present")
	}
	return nil
}

// inventName makes up a name for a service that was given none.
func inventName(taken func(string) bool) string {
	moods := []string{"brave", "calm", "clever", "eager", "gentle", "happy", "jolly", "keen", "lively", "merry", "nimble", "proud", "quick", "quiet", "swift", "wise"}
	fish := []string{"anchovy", "bream", "carp", "char", "cod", "dace", "eel", "goby", "herring", "mullet", "perch", "pike", "roach", "salmon", "sprat", "trout"}
	name := ""
	for range 100 {
		name = moods[rand.IntN(len(moods))] + "_" + fish[rand.IntN(len(fish))] // #nosec G404 -- a name, not a secret
		if !taken(name) {
			return name
		}
	}
	return name + "_" + shoal.NewID()[:6]
}
