package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// runShoal runs the built binary under a name against a node.
func runShoal(t *testing.T, name string, n *lab.Node, args ...string) (string, int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(binary(t), path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+n.Socket(), "DOCKER_CONFIG="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestTheBinaryIsTheDockerCommandLineToo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "cli")
	c.create(c.n1, "--name", "web", "busybox", "sleep", "1d")
	for _, args := range [][]string{
		{"node", "ls", "--format", "{{.Hostname}} {{.Status}}"},
		{"service", "ls", "--format", "{{.Name}} {{.Replicas}} {{.Image}}"},
		{"network", "ls", "--format", "{{.Name}} {{.Driver}}"},
		{"image", "ls", "-q"},
		{"system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"},
		{"system", "prune", "-f"},
	} {
		got, code := runShoal(t, "shoal", c.n1, args...)
		if want := c.ok(c.n1, args...); strings.TrimSpace(got) != want || code != 0 {
			t.Errorf("shoal %s (exit %d):\n%s\ndocker says:\n%s", strings.Join(args, " "), code, got, want)
		}
	}
	if out, code := runShoal(t, "shoal", c.n1, "service", "create", "--help"); code != 0 || !strings.Contains(out, "Usage:  shoal service create [OPTIONS] IMAGE [COMMAND] [ARG...]") {
		t.Errorf("shoal service create --help (exit %d):\n%s", code, out)
	}
	if out, _ := runShoal(t, "docker", c.n1, "service", "create", "--help"); !strings.Contains(out, "Usage:  docker service create") {
		t.Errorf("as docker:\n%s", out)
	}
	if out, code := runShoal(t, "docker", c.n1, "service", "inspect", "nosuch"); code != 1 || !strings.Contains(out, "no such service: nosuch") {
		t.Errorf("inspect of nothing (exit %d): %s", code, out)
	}
	if out, code := runShoal(t, "shoal", c.n1, "nosuch"); code != 1 || !strings.Contains(out, "unknown command: shoal nosuch") {
		t.Errorf("unknown command (exit %d): %s", code, out)
	}
}

// certificate writes name.pem and name-key.pem into dir, signed by parent (itself if nil), and gives what signs further ones.
func certificate(t *testing.T, dir, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestTheAPIOverTLSWantsACertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	certificate(t, dir, "stranger", nil, nil)
	file := func(name string) string { return filepath.Join(dir, name+".pem") }
	l, err := lab.New("tls", "", binary(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	n, err := l.AddNode("n1", 11, "-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", file("ca"), "--tlscert", file("server"), "--tlskey", file("server-key"))
	if err != nil {
		t.Fatal(err)
	}
	as := func(who string) (string, error) {
		cmd := n.Command(t.Context(), "docker", "--tlsverify", "--tlscacert", file("ca"), "--tlscert", file(who), "--tlskey", file(who+"-key"),
			"-H", "tcp://127.0.0.1:2376", "version", "--format", "{{.Server.Version}}")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return strings.TrimSpace(out.String()), err
	}
	if out, err := as("client"); err != nil || out == "" {
		t.Errorf("with a certificate of the CA: %v: %s", err, out)
	}
	if out, err := as("stranger"); err == nil {
		t.Errorf("with a stranger's certificate: %s", out)
	}
}
