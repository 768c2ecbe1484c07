package cluster

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func toAPIService(s *shoal.Service) swarm.Service {
	out := swarm.Service{ID: string(s.ID), Meta: toAPIMeta(s.Meta), Spec: toAPIServiceSpec(s.Spec)}
	if s.PreviousSpec != nil {
		previous := toAPIServiceSpec(*s.PreviousSpec)
		out.PreviousSpec = &previous
	}
	if e := toAPIEndpointSpec(s.Endpoint.Spec); e != nil && len(s.Endpoint.VIPs)+len(s.Endpoint.Ports) > 0 {
		out.Endpoint.Spec = *e
	}
	if len(s.Endpoint.Ports) > 0 {
		out.Endpoint.Ports = convert.List(s.Endpoint.Ports, toAPIPort)
	}
	for _, vip := range s.Endpoint.VIPs {
		for _, addr := range []netip.Prefix{vip.Addr, vip.Addr6} {
			if addr.IsValid() {
				out.Endpoint.VirtualIPs = append(out.Endpoint.VirtualIPs, swarm.EndpointVirtualIP{NetworkID: string(vip.NetworkID), Addr: addr})
			}
		}
	}
	if u := s.UpdateStatus; u != nil {
		out.UpdateStatus = &swarm.UpdateStatus{
			State: swarm.UpdateState(u.State), StartedAt: u.StartedAt, CompletedAt: u.CompletedAt, Message: u.Message,
		}
	}
	if j := s.JobStatus; j != nil {
		out.JobStatus = &swarm.JobStatus{JobIteration: swarm.Version{Index: j.Iteration}, LastExecution: j.LastExecution}
	}
	return out
}

func toAPIServiceSpec(s shoal.ServiceSpec) swarm.ServiceSpec {
	out := swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: s.Name, Labels: convert.NonNil(s.Labels)},
		TaskTemplate: toAPITaskSpec(s.Task), UpdateConfig: toAPIUpdateConfig(s.Update), RollbackConfig: toAPIUpdateConfig(s.Rollback),
		EndpointSpec: toAPIEndpointSpec(s.Endpoint),
	}
	out.TaskTemplate.Runtime = swarm.RuntimeContainer
	switch m := s.Mode; {
	case m.Replicated != nil:
		out.Mode.Replicated = &swarm.ReplicatedService{Replicas: m.Replicated.Replicas}
	case m.Global != nil:
		out.Mode.Global = &swarm.GlobalService{}
	case m.ReplicatedJob != nil:
		out.Mode.ReplicatedJob = &swarm.ReplicatedJob{MaxConcurrent: m.ReplicatedJob.MaxConcurrent, TotalCompletions: m.ReplicatedJob.TotalCompletions}
	case m.GlobalJob != nil:
		out.Mode.GlobalJob = &swarm.GlobalJob{}
	}
	return out
}

// serviceRequest is a spec as clients send it; those from before API 1.44 may name the networks outside of the template.
type serviceRequest struct {
	swarm.ServiceSpec
	Networks []swarm.NetworkAttachmentConfig
}

func fromAPIServiceSpec(s serviceRequest) (shoal.ServiceSpec, error) {
	out := shoal.ServiceSpec{Name: s.Name, Labels: s.Labels}
	if len(s.TaskTemplate.Networks) == 0 {
		s.TaskTemplate.Networks = s.Networks
	}
	var err error
	if out.Task, err = fromAPITaskSpec(s.TaskTemplate); err != nil {
		return out, err
	}
	if out.Update, err = fromAPIUpdateConfig(s.UpdateConfig); err != nil {
		return out, err
	}
	if out.Rollback, err = fromAPIUpdateConfig(s.RollbackConfig); err != nil {
		return out, err
	}
	if out.Endpoint, err = fromAPIEndpointSpec(s.EndpointSpec); err != nil {
		return out, err
	}
	modes := 0
	if m := s.Mode.Replicated; m != nil {
		modes++
		out.Mode.Replicated = &shoal.Replicated{Replicas: m.Replicas}
	}
	if s.Mode.Global != nil {
		modes++
		out.Mode.Global = &shoal.Global{}
	}
	if m := s.Mode.ReplicatedJob; m != nil {
		modes++
		out.Mode.ReplicatedJob = &shoal.ReplicatedJob{MaxConcurrent: m.MaxConcurrent, TotalCompletions: m.TotalCompletions}
	}
	if s.Mode.GlobalJob != nil {
		modes++
		out.Mode.GlobalJob = &shoal.GlobalJob{}
	}
	if modes > 1 {
		return out, server.BadRequest("must specify only one service mode")
	}
	if modes == 0 {
		out.Mode.Replicated = &shoal.Replicated{}
	}
	one := uint64(1)
	if r := out.Mode.Replicated; r != nil {
		r.Replicas = cmp.Or(r.Replicas, &one)
	}
	if j := out.Mode.ReplicatedJob; j != nil {
		j.MaxConcurrent = cmp.Or(j.MaxConcurrent, &one)
		j.TotalCompletions = cmp.Or(j.TotalCompletions, j.MaxConcurrent)
	}
	return out, nil
}

func toAPIUpdateConfig(u *shoal.UpdateConfig) *swarm.UpdateConfig {
	if u == nil {
		return nil
	}
	return &swarm.UpdateConfig{
		Parallelism: u.Parallelism, Delay: u.Delay, FailureAction: swarm.FailureAction(u.FailureAction), Monitor: u.Monitor,
		MaxFailureRatio: u.MaxFailureRatio, Order: swarm.UpdateOrder(u.Order),
	}
}

func fromAPIUpdateConfig(u *swarm.UpdateConfig) (*shoal.UpdateConfig, error) {
	if u == nil {
		return nil, nil
	}
	out := &shoal.UpdateConfig{
		Parallelism: u.Parallelism, Delay: u.Delay, FailureAction: shoal.FailureAction(u.FailureAction), Monitor: u.Monitor,
		MaxFailureRatio: u.MaxFailureRatio, Order: shoal.UpdateOrder(u.Order),
	}
	if !setDefault(&out.FailureAction, shoal.PauseOnFailure, shoal.ContinueOnFailure, shoal.RollbackOnFailure) {
		return nil, server.BadRequest("unrecognized update failure action %s", u.FailureAction)
	}
	if !setDefault(&out.Order, shoal.StopFirst, shoal.StartFirst) {
		return nil, server.BadRequest("unrecognized update order %s", u.Order)
	}
	return out, nil
}

// setDefault replaces an empty value by the default. It tells whether the value then is the default or one of the others.
func setDefault[T ~string](value *T, fallback T, others ...T) bool {
	*value = cmp.Or(*value, fallback)
	return *value == fallback || slices.Contains(others, *value)
}

func toAPIEndpointSpec(e *shoal.EndpointSpec) *swarm.EndpointSpec {
	if e == nil {
		return nil
	}
	return &swarm.EndpointSpec{Mode: swarm.ResolutionMode(e.Mode), Ports: convert.List(e.Ports, toAPIPort)}
}

func fromAPIEndpointSpec(e *swarm.EndpointSpec) (*shoal.EndpointSpec, error) {
	if e == nil {
		return nil, nil
	}
	out := &shoal.EndpointSpec{Mode: shoal.ResolutionMode(e.Mode)}
	if !setDefault(&out.Mode, shoal.ResolveVIP, shoal.ResolveDNSRR) {
		return nil, server.BadRequest("invalid resolution mode: %q", e.Mode)
	}
	for _, p := range e.Ports {
		port := shoal.Port{Name: p.Name, Protocol: shoal.Protocol(p.Protocol), Mode: shoal.PublishMode(p.PublishMode)}
		if p.TargetPort == 0 || p.TargetPort > math.MaxUint16 || p.PublishedPort > math.MaxUint16 {
			return nil, server.BadRequest("invalid port: target %d, published %d", p.TargetPort, p.PublishedPort)
		}
		port.Target, port.Published = uint16(p.TargetPort), uint16(p.PublishedPort)
		if !setDefault(&port.Protocol, shoal.TCP, shoal.UDP, shoal.SCTP) {
			return nil, server.BadRequest("invalid protocol value: %q", p.Protocol)
		}
		if !setDefault(&port.Mode, shoal.PublishIngress, shoal.PublishHost) {
			return nil, server.BadRequest("invalid publish mode: %q", p.PublishMode)
		}
		out.Ports = append(out.Ports, port)
	}
	return out, nil
}

func toAPIPort(p shoal.Port) swarm.PortConfig {
	return swarm.PortConfig{
		Name: p.Name, Protocol: network.IPProtocol(p.Protocol), TargetPort: uint32(p.Target), PublishedPort: uint32(p.Published),
		PublishMode: swarm.PortConfigPublishMode(p.Mode),
	}
}
