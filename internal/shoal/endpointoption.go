package shoal

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/containerd/errdefs"
)

// Driver options of an endpoint that are honoured.
const (
	// OptionInterfaceName is what the endpoint's interface is called in the container.
	OptionInterfaceName = "com.docker.network.endpoint.ifname"
	// OptionEndpointSysctls is the settings of the interface, separated by commas: "net.ipv4.conf.IFNAME.log_martians=1".
	OptionEndpointSysctls = "com.docker.network.endpoint.sysctls"
)

// MaxInterfaceName is how long the name of an interface may be, in bytes (IFNAMSIZ without the final zero).
const MaxInterfaceName = 15

// ValidInterfaceName tells whether the kernel takes the name for an interface.
func ValidInterfaceName(name string) bool {
	return name != "" && len(name) <= MaxInterfaceName && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) })
}

// Sysctl is a kernel setting of one interface.
type Sysctl struct {
	Key   string // below /proc/sys: "net/ipv4/conf/eth0/log_martians"
	Value string
}

// interfaceSysctl is a setting that holds for one interface. The interface stands in it as IFNAME, which the CLI may have written in lower case.
var interfaceSysctl = regexp.MustCompile(`^net\.(ipv4|ipv6|mpls)\.([a-z_]+)\.(?:IFNAME|ifname)\.([a-z0-9_]+)=(.*)$`)

// EndpointSysctls reads the settings that driver options ask for the interface of the name. Errors have Docker's words.
func EndpointSysctls(options map[string]string, name string) ([]Sysctl, error) {
	text, ok := options[OptionEndpointSysctls]
	if !ok {
		return nil, nil
	}
	var out []Sysctl
	for one := range strings.SplitSeq(text, ",") {
		parts := interfaceSysctl.FindStringSubmatch(one)
		if parts == nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid endpoint settings:\nunrecognised network interface sysctl '%s'; "+
				"represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'", one))
		}
		out = append(out, Sysctl{Key: "net/" + parts[1] + "/" + parts[2] + "/" + name + "/" + parts[3], Value: parts[4]})
	}
	return out, nil
}

// Validate refuses a request that no network can grant.
func (r EndpointRequest) Validate() error {
	if err := r.MAC.Err(); err != nil {
		return err
	}
	if name, ok := r.DriverOpts[OptionInterfaceName]; ok && !ValidInterfaceName(name) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid interface name %q: it must have 1 to %d characters, no blanks, slashes and colons", name, MaxInterfaceName))
	}
	_, err := EndpointSysctls(r.DriverOpts, "")
	return err
}
