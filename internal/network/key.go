package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// loadKey is the private key in the file, made if there is none. It lasts until the machine restarts.
func loadKey(path string) (wireguard.Key, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		key, err := wireguard.ParseKey(strings.TrimSpace(string(text)))
		if err != nil {
			return key, fmt.Errorf("read %s: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return wireguard.Key{}, err
	}
	key, err := wireguard.NewKey()
	if err != nil {
		return key, err
	}
	return key, os.WriteFile(path, []byte(key.String()+"\n"), 0o600)
}
