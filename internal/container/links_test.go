package container

import (
	"strings"
	"testing"
)

func TestTheEnvironmentOfALink(t *testing.T) {
	target := Info{Env: []string{"PATH=/bin", "HOME=/", "PASSWORD=a=b"}}
	target.Spec.ExposedPorts = []string{"53/udp", "6380/tcp", "6379/tcp", "80"}
	want := `MY_DB_PORT=tcp://10.0.0.2:80
MY_DB_PORT_80_TCP=tcp://10.0.0.2:80
MY_DB_PORT_80_TCP_ADDR=10.0.0.2
MY_DB_PORT_80_TCP_PORT=80
MY_DB_PORT_80_TCP_PROTO=tcp
MY_DB_PORT_6379_TCP=tcp://10.0.0.2:6379
MY_DB_PORT_6379_TCP_ADDR=10.0.0.2
MY_DB_PORT_6379_TCP_PORT=6379
MY_DB_PORT_6379_TCP_PROTO=tcp
MY_DB_PORT_6380_TCP=tcp://10.0.0.2:6380
MY_DB_PORT_6380_TCP_ADDR=10.0.0.2
MY_DB_PORT_6380_TCP_PORT=6380
MY_DB_PORT_6380_TCP_PROTO=tcp
MY_DB_PORT_6379_TCP_START=tcp://10.0.0.2:6379
MY_DB_PORT_6379_TCP_PORT_START=6379
MY_DB_PORT_6379_TCP_END=tcp://10.0.0.2:6380
MY_DB_PORT_6379_TCP_PORT_END=6380
MY_DB_PORT_53_UDP=udp://10.0.0.2:53
MY_DB_PORT_53_UDP_ADDR=10.0.0.2
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_NAME=/web/my-db
MY_DB_ENV_PASSWORD=a=b`
	if got := strings.Join(linkEnv("my-db", "/web/my-db", "10.0.0.2", target), "\n"); got != want {
		t.Errorf("got\n%s", got)
	}
}
