package build

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
)

// frontendAttrs is a request in the words of BuildKit's frontend for Dockerfiles.
func (b *Builder) frontendAttrs(r *Request) (map[string]string, error) {
	hosts, err := withGateways(r.ExtraHosts, b.hostGateways())
	if err != nil {
		return nil, err
	}
	attrs := map[string]string{"image-resolve-mode": "default"}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	if r.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	if r.NoCache {
		attrs["no-cache"] = ""
	}
	if r.Dockerfile != "." {
		set("filename", r.Dockerfile)
	}
	if !r.SessionContext {
		set("context", r.Remote)
	}
	if r.Platform != "" {
		if _, err := platforms.Parse(r.Platform); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
	}
	switch r.NetworkMode {
	case "host", "none":
		attrs["force-network-mode"] = r.NetworkMode
	case "", "default", "bridge":
	default:
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("network mode %q not supported by buildkit", r.NetworkMode))
	}
	for name, value := range r.Args {
		if value != nil { // without a value the client has none to give, and the Dockerfile's default holds
			attrs["build-arg:"+name] = *value
		}
	}
	for name, value := range r.Labels {
		attrs["label:"+name] = value
	}
	set("target", r.Target)
	set("platform", r.Platform)
	set("cgroup-parent", r.CgroupParent)
	set("add-hosts", joined(hosts))
	set("ulimit", joined(r.Ulimits))
	set("shm-size", number(r.ShmSize))
	r.Limits.attrs(set)
	return attrs, nil
}

// withGateways replaces "host-gateway" in extra hosts by the node's addresses.
func withGateways(hosts []string, gateways []netip.Addr) ([]string, error) {
	var out []string
	for _, h := range hosts {
		name, ok := strings.CutSuffix(h, "=host-gateway")
		if !ok {
			out = append(out, h)
			continue
		}
		if len(gateways) == 0 {
			return nil, errdefs.ErrInvalidArgument.WithMessage("unable to derive the IP value for host-gateway")
		}
		for _, g := range gateways {
			out = append(out, name+"="+g.String())
		}
	}
	return out, nil
}

func (l *Limits) attrs(set func(key, value string)) {
	set("memory", number(l.Memory))
	set("memswap", number(l.MemorySwap))
	set("cpushares", number(l.CPUShares))
	set("cpuperiod", number(l.CPUPeriod))
	set("cpuquota", number(l.CPUQuota))
	set("cpusetcpus", l.CpusetCpus)
	set("cpusetmems", l.CpusetMems)
}

// number is empty for 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// joined is how BuildKit's frontend reads lists. None of their values has a comma.
func joined(values []string) string { return strings.Join(values, ",") }
