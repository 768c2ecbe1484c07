package engine

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/go-units"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/registry"
)

// sessionContext is the remote context of a client that gives its files on a session.
const sessionContext = "client-session"

// fromAPIBuild reads the parameters of a build.
func fromAPIBuild(r *http.Request, experimental bool) (build.Request, error) {
	if err := r.ParseForm(); err != nil {
		return build.Request{}, server.BadRequest("%v", err)
	}
	if err := validateBuild(r, experimental); err != nil {
		return build.Request{}, err
	}
	out := build.Request{
		ID: r.Form.Get("buildid"), Body: r.Body, Remote: r.Form.Get("remote"), Session: r.Form.Get("session"),
		Dockerfile: r.Form.Get("dockerfile"), Target: r.Form.Get("target"), NetworkMode: r.Form.Get("networkmode"), CgroupParent: r.Form.Get("cgroupparent"),
		NoCache: server.BoolParam(r, "nocache"), Pull: server.BoolParam(r, "pull"),
		Limits: build.Limits{CpusetCpus: r.Form.Get("cpusetcpus"), CpusetMems: r.Form.Get("cpusetmems")},
	}
	for _, tag := range r.Form["t"] {
		if tag != "" {
			out.Tags = append(out.Tags, tag)
		}
	}
	out.Auth = fromAPIRegistryConfig(r)
	out.SessionContext = out.Remote == sessionContext
	if out.SessionContext {
		out.Remote = ""
	}
	if !version.Before(r.Context(), "1.32") {
		out.Platform = r.Form.Get("platform")
	}
	if err := readBuildNumbers(r, &out); err != nil {
		return out, err
	}
	return out, readBuildLists(r, &out)
}

// fromAPIRegistryConfig reads the accounts that a client sends along; there are none if they cannot be read.
func fromAPIRegistryConfig(r *http.Request) map[string]registry.Auth {
	var accounts map[string]registry.Auth
	text, err := base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Config"))
	if err != nil || json.Unmarshal(text, &accounts) != nil {
		return nil
	}
	return accounts
}

// validateBuild refuses what has no effect here, or none any more.
func validateBuild(r *http.Request, experimental bool) error {
	if r.Form.Has("securityopt") {
		return server.BadRequest("security options are not supported on linux")
	}
	if i := r.Form.Get("isolation"); i != "" && i != "default" {
		return server.BadRequest("unsupported isolation: %q", i)
	}
	if v := r.Form.Get("version"); v != "" && v != "1" && v != "2" {
		return server.BadRequest("invalid version %q", v)
	}
	if server.BoolParam(r, "squash") {
		if !experimental {
			return server.BadRequest("squash is only supported with experimental mode")
		}
		return server.Errorf(http.StatusNotImplemented, "squash: not supported by this engine")
	}
	if r.Form.Get("remote") == "upload-request" || strings.HasPrefix(r.Form.Get("buildid"), "upload-request:") {
		return server.Errorf(http.StatusNotImplemented, "a context that is uploaded by a second request: not supported by this engine")
	}
	return nil
}

func readBuildNumbers(r *http.Request, out *build.Request) error {
	l := &out.Limits
	for name, into := range map[string]*int64{
		"memory": &l.Memory, "memswap": &l.MemorySwap, "cpushares": &l.CPUShares, "cpuperiod": &l.CPUPeriod, "cpuquota": &l.CPUQuota, "shmsize": &out.ShmSize,
	} {
		text := r.Form.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return server.BadRequest("%s: %v", name, err)
		}
		*into = n
	}
	return nil
}

func readBuildLists(r *http.Request, out *build.Request) error {
	var ulimits []*units.Ulimit
	var outputs []struct {
		Type  string
		Attrs map[string]string
	}
	for _, p := range []struct {
		name, failure string
		into          any
	}{
		{"buildargs", "error reading build args", &out.Args}, {"labels", "error reading labels", &out.Labels}, {"cachefrom", "error reading cache-from", &out.CacheFrom},
		{"ulimits", "error reading ulimit settings", &ulimits}, {"outputs", "invalid outputs specified", &outputs},
	} {
		if text := r.Form.Get(p.name); text != "" {
			if err := json.Unmarshal([]byte(text), p.into); err != nil {
				return server.BadRequest("%s: %v", p.failure, err)
			}
		}
	}
	for _, u := range ulimits {
		if u != nil {
			out.Ulimits = append(out.Ulimits, u.String())
		}
	}
	if len(outputs) > 1 {
		return server.BadRequest("multiple outputs not supported")
	}
	for _, o := range outputs {
		out.Exporter, out.ExporterAttrs = o.Type, o.Attrs
	}
	for _, h := range r.Form["extrahosts"] {
		name, address, ok := strings.Cut(h, ":")
		if !ok || name == "" || address == "" {
			return server.BadRequest("invalid host %s", h)
		}
		out.ExtraHosts = append(out.ExtraHosts, name+"="+address)
	}
	return nil
}

// familiarTag is how Docker shows a name that was asked for.
func familiarTag(tag string) string {
	named, err := reference.ParseNormalizedNamed(tag)
	if err != nil {
		return tag
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}
