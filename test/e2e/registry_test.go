package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/registry/registrytest"
)

// registryAddr is where a lab's registry is, if it has one. The nodes take its certificate as it is.
const registryAddr = "10.77.0.50:5000"

// startRegistry starts a private registry on a machine of its own.
func (c *cluster) startRegistry() *registrytest.Server {
	c.t.Helper()
	host, err := c.AddHost("registry", 50)
	if err != nil {
		c.t.Fatal(err)
	}
	var listener net.Listener
	err = netnstest.At(host.Namespace(), func() (err error) {
		listener, err = net.Listen("tcp", registryAddr)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return registrytest.New(c.t, registrytest.Options{Listener: listener, TLS: true, Tokens: true, Username: "ann", Password: "secret"})
}

// push gives an image that all nodes have to the registry under another name, and takes that name off the node again.
func (c *cluster) push(image, as string) (digest string) {
	c.t.Helper()
	c.ok(c.n1, "tag", image, as)
	_, after, _ := strings.Cut(c.ok(c.n1, "push", as), "digest: ")
	digest, _, _ = strings.Cut(after, " ")
	if !strings.HasPrefix(digest, "sha256:") {
		c.t.Fatalf("push of %s says no digest", as)
	}
	c.ok(c.n1, "rmi", as)
	return digest
}

// runsEverywhere fails unless a service runs a task of an image on each of the three nodes, and nothing else.
func (c *cluster) runsEverywhere(service, image string) error {
	got := strings.Fields(c.ok(c.n1, "service", "ps", service, "--no-trunc", "--filter", "desired-state=running", "--format", "{{.Image}}|{{.CurrentState}}"))
	fine := 0
	for _, field := range got {
		if field == image+"|Running" {
			fine++
		}
	}
	if fine != 3 {
		return fmt.Errorf("%s", strings.Join(got, " "))
	}
	return nil
}

func TestAPrivateRegistry(t *testing.T) {
	c := newCluster(t, "registry")
	server := c.startRegistry()
	if r := c.docker(c.n1, "login", "-u", "ann", "-p", "guess", registryAddr); r.Code == 0 || !strings.Contains(r.Stderr, "unauthorized: incorrect username or password") {
		t.Errorf("login with a wrong password: %d %s", r.Code, r.Text())
	}
	if r := c.docker(c.n1, "login", "-u", "ann", "-p", "secret", registryAddr); r.Code != 0 || !strings.Contains(r.Stdout, "Login Succeeded") {
		t.Fatalf("login: %d %s", r.Code, r.Text())
	}
	stable := registryAddr + "/team/srv:stable"
	first := c.push("srv:1", stable)

	created := c.docker(c.n1, "service", "create", "--name", "web", "--mode", "global", "--with-registry-auth", "--stop-grace-period", "1s", stable)
	if created.Code != 0 || strings.Contains(created.Text(), "could not be accessed") {
		t.Fatalf("service create: %d %s", created.Code, created.Text())
	}
	if got := c.ok(c.n1, "service", "inspect", "web", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}"); got != stable+"@"+first {
		t.Errorf("the service's image is %s", got)
	}
	c.eventually(30*time.Second, "each node has pulled the image", func() error { return c.runsEverywhere("web", stable+"@"+first) })

	second := c.push("srv:2", stable)
	c.ok(c.n1, "service", "update", "-q", "--with-registry-auth", "--image", stable, "web")
	c.eventually(30*time.Second, "the moved tag is rolled out to all nodes", func() error { return c.runsEverywhere("web", stable+"@"+second) })
	if first == second {
		t.Error("the tag has not moved")
	}

	if r := c.docker(c.n2, "pull", registryAddr+"/team/srv:nosuch"); r.Code == 0 || !strings.Contains(r.Stderr, "manifest unknown") {
		t.Errorf("pull of a missing tag: %d %s", r.Code, r.Text())
	}
	c.ok(c.n2, "logout", registryAddr)
	if r := c.docker(c.n2, "pull", stable); r.Code == 0 || !strings.Contains(r.Stderr, "pull access denied") {
		t.Errorf("pull without an account: %d %s", r.Code, r.Text())
	}
	c.ok(c.n1, "login", "-u", "ann", "-p", "secret", registryAddr)

	// Whatever the registry does, the tasks wait for it and start when it is well.
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"lies": registrytest.Lie("/blobs/"),
		"down": func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
		"cuts": registrytest.Cut(1 << 10),
		"mends": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	} {
		image := registryAddr + "/team/" + name + ":1"
		c.ok(c.n1, "run", "--name", "maker", "busybox", "dd", "if=/dev/urandom", "of=/f", "bs=1k", "count=64") // no node has its content
		c.ok(c.n1, "commit", "--change", `CMD ["sleep","1000000"]`, "maker", name)
		c.ok(c.n1, "rm", "maker")
		c.push(name, image)
		c.ok(c.n1, "rmi", name)
		server.Break(fault)
		c.ok(c.n1, "service", "create", "-d", "-q", "--name", name, "--mode", "global", "--with-registry-auth", "--restart-delay", "500ms", image)
		c.eventually(30*time.Second, "a task says that it has no image while the registry "+name, func() error {
			if said := c.ok(c.n1, "service", "ps", name, "--no-trunc", "--format", "{{.Error}}"); !strings.Contains(said, "No such image: ") {
				return errors.New(said)
			}
			return nil
		})
		server.Break(nil)
		c.eventually(time.Minute, "tasks run after the registry "+name, func() error {
			r := c.ok(c.n1, "service", "ls", "--filter", "name="+name, "--format", "{{.Replicas}}")
			if r != "3/3" {
				return errors.New(r)
			}
			return nil
		})
		c.ok(c.n1, "service", "rm", name)
	}
}
