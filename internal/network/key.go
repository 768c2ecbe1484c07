package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// loadKey is the private key in the file. If there is none that can be read it makes another, of which the other nodes learn with the next session.
// It lasts until the machine restarts. An error means that there is no randomness.
func (n *Networks) loadKey(path string) (wireguard.Key, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		key, err := wireguard.ParseKey(strings.TrimSpace(string(text)))
		if err == nil {
			return key, nil
		}
		_ = n.cfg.Quarantine.SetAside(path, err) // logged
	} else if !errors.Is(err, fs.ErrNotExist) {
		n.log.Error("the key for encrypted networks cannot be read; the node takes another", "file", path, "err", err)
	}
	key, err := wireguard.NewKey()
	if err != nil {
		return key, fmt.Errorf("make the key for encrypted networks: %w", err)
	}
	if err := atomicfile.Write(path, []byte(key.String()+"\n"), 0o600); err != nil {
		n.log.Error("the key for encrypted networks cannot be kept; the daemon takes another at its next start", "file", path, "err", err)
	}
	return key, nil
}
