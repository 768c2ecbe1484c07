package cluster

import (
	"regexp"

	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// maxReplicas is more tasks than any cluster runs of one service. A greater number can only be a slip.
const maxReplicas = 1 << 17

const (
	minMemoryBytes = 4 << 20
	minNanoCPUs    = 1e6
	maxNameLength  = 63
)

var dnsName = regexp.MustCompile(`^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$`)

// validateService refuses a spec that could never work, in Docker's words.
func validateService(s shoal.ServiceSpec) error {
	switch {
	case !dnsName.MatchString(s.Name):
		return shoal.InvalidArgument("name must be valid as a DNS name component")
	case len(s.Name) > maxNameLength:
		return shoal.InvalidArgument("name must be 63 characters or fewer")
	}
	for _, check := range []func(shoal.ServiceSpec) error{
		validateResources, validateRestart, validatePlacement, validateContainer, validateUpdates, validateEndpoint, validatePublishLabels, validateReadinessLabels,
		validateReplicas, validateJob, validateNodeNetwork, validatePrivileges,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func validateResources(s shoal.ServiceSpec) error {
	r := s.Task.Resources
	if r == nil {
		return nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < -1 || *s > 100) {
		return shoal.InvalidArgument("Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	if r.SwapBytes != nil && *r.SwapBytes >= 0 && (r.Limits == nil || r.Limits.MemoryBytes == 0) {
		return shoal.InvalidArgument("swap limit requires a memory limit")
	}
	if l := r.Limits; l != nil {
		if err := validateAmounts(l.NanoCPUs, l.MemoryBytes); err != nil {
			return err
		}
	}
	if a := r.Reservations; a != nil {
		return validateAmounts(a.NanoCPUs, a.MemoryBytes)
	}
	return nil
}

// validateAmounts refuses a limit or reservation that is too small to run anything; zero is none.
func validateAmounts(nanoCPUs, memoryBytes int64) error {
	if nanoCPUs != 0 && nanoCPUs < minNanoCPUs {
		return shoal.InvalidArgument("invalid cpu value %g: Must be at least %g", float64(nanoCPUs)/1e9, float64(minNanoCPUs)/1e9)
	}
	if memoryBytes != 0 && memoryBytes < minMemoryBytes {
		return shoal.InvalidArgument("invalid memory value %d: Must be at least 4MiB", memoryBytes)
	}
	return nil
}

func validateRestart(s shoal.ServiceSpec) error {
	r := s.Task.Restart
	switch {
	case r == nil:
	case r.Delay != nil && *r.Delay < 0:
		return shoal.InvalidArgument("TaskSpec: restart-delay cannot be negative")
	case r.Window != nil && *r.Window < 0:
		return shoal.InvalidArgument("TaskSpec: restart-window cannot be negative")
	}
	return nil
}

func validatePlacement(s shoal.ServiceSpec) error {
	if p := s.Task.Placement; p != nil {
		if _, err := shoal.ParseConstraints(p.Constraints); err != nil {
			return shoal.Unknown("%s", err.Error())
		}
	}
	return nil
}

func validateContainer(s shoal.ServiceSpec) error {
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
	for _, check := range []func(*shoal.ContainerSpec) error{validateTemplates, validateMounts, validateFiles, validateLimits, validateHealth} {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func validateUpdates(s shoal.ServiceSpec) error {
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

func validateEndpoint(s shoal.ServiceSpec) error {
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

// validatePublishLabels refuses labels about published ports that name a port which is not published, or cannot be read.
func validatePublishLabels(s shoal.ServiceSpec) error {
	var ports []shoal.Port
	if s.Endpoint != nil {
		ports = s.Endpoint.Ports
	}
	if _, err := shoal.PublishRules(s.Labels, ports); err != nil {
		return shoal.InvalidArgument("%v", err)
	}
	return nil
}

// validateReadinessLabels refuses labels that do not describe a readiness check.
func validateReadinessLabels(s shoal.ServiceSpec) error {
	if _, err := shoal.ReadyCheckOf(s.Labels); err != nil {
		return shoal.InvalidArgument("%v", err)
	}
	return nil
}

// validateReplicas refuses numbers of tasks that no cluster could run, before the orchestrator creates them.
func validateReplicas(s shoal.ServiceSpec) error {
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

func validateJob(s shoal.ServiceSpec) error {
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

// validateNodeNetwork refuses the routing mesh for tasks that are not reached through it.
func validateNodeNetwork(s shoal.ServiceSpec) error {
	for _, a := range s.AttachedNetworks() {
		if (a.Target == shoal.DriverHost || a.Target == "none") && s.Endpoint.HasIngressPort() {
			return shoal.InvalidArgument("ports of a service on network %s cannot be published in ingress mode", a.Target)
		}
	}
	return nil
}

// validatePrivileges refuses settings that no node could honour.
func validatePrivileges(s shoal.ServiceSpec) error {
	if s.Task.Container == nil || s.Task.Container.Privileges == nil {
		return nil
	}
	p := s.Task.Container.Privileges
	for _, value := range p.CredentialSpec {
		if value != "" {
			return shoal.InvalidArgument("Privileges: credential specs are of Windows: no Linux node has them")
		}
	}
	for _, key := range []string{keyUser, keyRole, keyType, keyLevel} {
		if p.SELinux[key] != "" {
			return shoal.InvalidArgument("Privileges: SELinux labels are not supported by this engine: containers have that of the daemon")
		}
	}
	switch p.SeccompMode {
	case "", "default", "unconfined", "custom":
	default:
		return shoal.InvalidArgument("unknown seccomp mode %q", p.SeccompMode)
	}
	switch p.AppArmorMode {
	case "", "default", "disabled":
	default:
		return shoal.InvalidArgument("unknown AppArmor mode %q", p.AppArmorMode)
	}
	return nil
}
