package agent

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Whatever a service asks for its containers, the container that a node makes is another one for it. What that one has for it is shown by the engine's tests.
func TestEveryFieldOfATaskReachesItsContainer(t *testing.T) {
	yes, none, swap := true, time.Duration(0), int64(1<<20)
	set := map[string]any{
		"Image": "another", "Labels": map[string]string{"a": "b"}, "Command": []string{"c"}, "Args": []string{"a"}, "Hostname": "h", "Env": []string{"A=b"}, "Dir": "/d", "User": "u",
		"Groups": []string{"g"}, "Init": &yes, "TTY": true, "OpenStdin": true, "ReadOnly": true, "StopSignal": "INT", "StopGracePeriod": &none,
		"Mounts": []shoal.Mount{{Type: "tmpfs", Target: "/t"}}, "Healthcheck": &shoal.Healthcheck{Retries: 1}, "Hosts": []string{"192.0.2.1 h"},
		"DNS":     &shoal.DNSConfig{Search: []string{"s"}},
		"Secrets": []shoal.SecretReference{{ID: "s", Name: "s", Target: "s"}}, "Configs": []shoal.ConfigReference{{ID: "c", Name: "c", Target: "/c"}},
		"Sysctls": map[string]string{"net.x": "1"}, "CapabilityAdd": []string{"CHOWN"}, "CapabilityDrop": []string{"CHOWN"}, "Ulimits": []shoal.Ulimit{{Name: "nofile"}},
		"OomScoreAdj": int64(5), "Privileges": &shoal.Privileges{NoNewPrivileges: true},
	}
	deps := Dependencies{Secrets: map[shoal.SecretID]shoal.Secret{"s": {Data: []byte("s")}}, Configs: map[shoal.ConfigID]shoal.Config{"c": {Data: []byte("c")}}}
	specOf := func(s shoal.TaskSpec) any {
		t.Helper()
		spec, err := (&Engine{}).spec(&shoal.Task{Spec: s}, deps)
		if err != nil {
			t.Fatal(err)
		}
		return spec
	}
	plain := specOf(shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: "i"}})
	for field := range reflect.TypeFor[shoal.ContainerSpec]().Fields() {
		c := shoal.ContainerSpec{Image: "i"}
		value, known := set[field.Name]
		if !known {
			t.Errorf("nobody says what %s does", field.Name)
			continue
		}
		reflect.ValueOf(&c).Elem().FieldByName(field.Name).Set(reflect.ValueOf(value))
		if reflect.DeepEqual(plain, specOf(shoal.TaskSpec{Container: &c})) {
			t.Errorf("%s has no effect", field.Name)
		}
	}
	for name, c := range map[string]shoal.TaskSpec{
		"seccomp":           {Container: &shoal.ContainerSpec{Image: "i", Privileges: &shoal.Privileges{SeccompMode: "unconfined"}}},
		"a seccomp profile": {Container: &shoal.ContainerSpec{Image: "i", Privileges: &shoal.Privileges{SeccompMode: "custom", SeccompProfile: []byte("{}")}}},
		"AppArmor":          {Container: &shoal.ContainerSpec{Image: "i", Privileges: &shoal.Privileges{AppArmorMode: "disabled"}}},
		"nameservers":       {Container: &shoal.ContainerSpec{Image: "i", DNS: &shoal.DNSConfig{Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}},
		"options of DNS":    {Container: &shoal.ContainerSpec{Image: "i", DNS: &shoal.DNSConfig{Options: []string{"ndots:3"}}}},
		"the log driver":    {Container: &shoal.ContainerSpec{Image: "i"}, LogDriver: &shoal.Driver{Name: "none"}},
		"limits":            {Container: &shoal.ContainerSpec{Image: "i"}, Resources: &shoal.ResourceRequirements{Limits: &shoal.Limits{Pids: 1}}},
		"swap": {Container: &shoal.ContainerSpec{Image: "i"}, Resources: &shoal.ResourceRequirements{
			Limits: &shoal.Limits{MemoryBytes: 1 << 22}, SwapBytes: &swap}},
		"swappiness":   {Container: &shoal.ContainerSpec{Image: "i"}, Resources: &shoal.ResourceRequirements{MemorySwappiness: &swap}},
		"reservations": {Container: &shoal.ContainerSpec{Image: "i"}, Resources: &shoal.ResourceRequirements{Reservations: &shoal.Resources{MemoryBytes: 1 << 22}}},
	} {
		if reflect.DeepEqual(plain, specOf(c)) {
			t.Errorf("%s has no effect", name)
		}
	}
}
