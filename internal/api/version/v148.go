package version

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// endpointSysctls is the option of an endpoint that holds the sysctls of its interface.
const endpointSysctls = "com.docker.network.endpoint.sysctls"

func changes148() []Change {
	return []Change{
		{Since: "1.48", Route: "POST /containers/create", What: "mounts of images, priorities of gateways; sysctls of an interface are options of its endpoint", Body: func(b *Body) error {
			for _, e := range child(child(b.object, "NetworkingConfig"), "EndpointsConfig") {
				if endpoint, ok := e.(object); ok {
					drop(endpoint, "GwPriority")
				}
			}
			for _, m := range children(child(b.object, "HostConfig"), "Mounts") {
				if text(m, "Type") == "image" {
					return refusal(`Mount type "Image" needs API v1.48 or newer`)
				}
			}
			return interfaceSysctls(b)
		}},
		{Since: "1.48", Route: "POST /networks/create", What: "networks without IPv4", Body: ignoreFields("EnableIPv4")},
		{Since: "1.48", Route: "GET /containers/json", What: "the manifest of the image", Answer: without("ImageManifestDescriptor")},
		{Since: "1.48", Route: "GET /containers/{id}/json", What: "the manifest of the image", Answer: without("ImageManifestDescriptor")},
		{Since: "1.48", Route: "GET /images/json", What: "the image's descriptor", Answer: without("Descriptor")},
		{Since: "1.48", Route: "GET /images/{name...}/json", What: "the image's descriptor and manifests", Query: ignore("manifests"), Answer: without("Descriptor", "Manifests")},
		{Since: "1.48", Route: "GET /images/{name...}/history", What: "the platform", Query: ignore("platform")},
		{Since: "1.48", Route: "GET /images/{name...}/get", What: "the platform", Query: ignore("platform")},
		{Since: "1.48", Route: "GET /images/get", What: "the platform", Query: ignore("platform")},
		{Since: "1.48", Route: "POST /images/load", What: "the platform", Query: ignore("platform")},
	}
}

// interfaceSysctls turns the sysctls of eth0, which were a container's, into those of its main network's endpoint.
func interfaceSysctls(b *Body) error {
	sysctls := child(child(b.object, "HostConfig"), "Sysctls")
	var moved, options []string
	for _, name := range slices.Sorted(maps.Keys(sysctls)) {
		part := strings.SplitN(name, ".", 5)
		if len(part) != 5 || part[0] != "net" || !strings.HasPrefix(part[3], "eth") {
			continue
		}
		if part[3] != "eth0" {
			return refusal(fmt.Sprintf("unable to determine network endpoint for sysctl %s, use driver option '%s' to set per-interface sysctls", name, endpointSysctls))
		}
		moved = append(moved, name)
		options = append(options, fmt.Sprintf("net.%s.%s.IFNAME.%s=%s", part[1], part[2], part[4], text(sysctls, name)))
	}
	if len(moved) == 0 {
		return nil
	}
	endpoint := mainEndpoint(b)
	if endpoint == nil {
		return nil
	}
	drop(sysctls, moved...)
	option := strings.Join(options, ",")
	b.Warnings = append(b.Warnings, fmt.Sprintf("Migrated sysctl %q to DriverOpts{%q:%q}.", strings.Join(moved, ","), endpointSysctls, option))
	driver := ensure(endpoint, "DriverOpts")
	if have := text(driver, endpointSysctls); have != "" {
		option += "," + have
	}
	driver[endpointSysctls] = option
	return nil
}
