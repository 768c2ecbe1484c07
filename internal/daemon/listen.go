package daemon

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/internal/atomicfile"
)

// listen opens the sockets that the API is served on. As long as it gets one of them, those that it does not get are no error but returned: an address
// may come later, and a port become free.
func (d *Daemon) listen() (all []net.Listener, missing map[string]error, err error) {
	missing = map[string]error{}
	for _, host := range d.cfg.Hosts {
		if which, ok := strings.CutPrefix(host, "fd://"); ok {
			passed, err := d.activated(which)
			if err != nil {
				return nil, nil, err
			}
			all = append(all, passed...)
			continue
		}
		l, err := d.listenAt(host)
		if err != nil {
			missing[host] = fmt.Errorf("listen at %s: %w", host, err)
			continue
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, nil, errors.Join(slices.Collect(maps.Values(missing))...)
	}
	return all, missing, nil
}

// listenLater opens a socket that could not be had yet, again and again, and serves the API there.
func (d *Daemon) listenLater(host string, cause error, serve func(net.Listener)) {
	d.quarantine.Retry("API at "+host, cause, func(context.Context) error {
		l, err := d.listenAt(host)
		if err == nil {
			serve(l)
		}
		return err
	})
}

func (d *Daemon) listenAt(host string) (net.Listener, error) {
	proto, addr, ok := strings.Cut(host, "://")
	if !ok {
		proto, addr = "tcp", host
	}
	switch proto {
	case "unix":
		return d.listenUnix(addr)
	case "tcp":
		if _, _, err := net.SplitHostPort(addr); err != nil {
			port := "2375"
			if d.cfg.TLS {
				port = "2376"
			}
			addr = net.JoinHostPort(addr, port)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, err
		}
		return d.secured(l)
	default:
		return nil, fmt.Errorf("invalid protocol %q: use unix, tcp or fd", proto)
	}
}

// listenUnix opens a socket for root and the group of --group, or for root alone if there is no such group.
func (d *Daemon) listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec G301 -- as /run is
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, errors.New("another daemon serves there")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	gid := 0
	if group, err := user.LookupGroup(d.cfg.Group); err == nil {
		gid, _ = strconv.Atoi(group.Gid) // group(5) allows only numbers
	}
	const ownerAndGroup = 0o660
	return l, errors.Join(os.Chown(path, 0, gid), os.Chmod(path, ownerAndGroup))
}

func (d *Daemon) tlsConfig() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(d.cfg.TLSCert, d.cfg.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("load the API's certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if d.cfg.TLSVerify {
		text, err := os.ReadFile(d.cfg.TLSCACert)
		if err != nil {
			return nil, fmt.Errorf("load the clients' CA: %w", err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("load the clients' CA: no certificate in %s", d.cfg.TLSCACert)
		}
	}
	return config, nil
}

// machineID is the random ID of this engine, which `docker info` shows. It is made at the first start and then kept.
func (d *Daemon) machineID() string {
	path := filepath.Join(d.cfg.DataRoot, "engine-id")
	if text, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(text))
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	id := hex.EncodeToString(b[:])
	if err := atomicfile.Write(path, []byte(id+"\n"), 0o600); err != nil {
		d.log.Warn("the engine's ID could not be stored: it will have another after the next start", "err", err)
	}
	return id
}
