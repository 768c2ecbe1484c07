package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/daemon/config"
)

// ociPrograms is the program to run for each runtime. One that has arguments is run by a script in dir, whose name changes with what it says: containers that run
// go on with the one that they were started by.
func ociPrograms(dir string, runtimes map[string]config.Runtime) (map[string]string, error) {
	programs := map[string]string{}
	for name, r := range runtimes {
		if programs[name] = r.Path; len(r.Args) == 0 {
			continue
		}
		// As with dockerd the shell splits arguments that have spaces.
		script := fmt.Sprintf("#!/bin/sh\nexec %s %s \"$@\"\n", r.Path, strings.Join(r.Args, " "))
		sum := sha256.Sum256([]byte(script))
		path := filepath.Join(dir, url.PathEscape(name)+"."+hex.EncodeToString(sum[:8]))
		programs[name] = path
		if err := atomicfile.Mkdir(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make folder of runtimes: %w", err)
		}
		if there, err := os.ReadFile(path); err == nil && string(there) == script {
			continue
		}
		if err := atomicfile.Write(path, []byte(script), 0o700); err != nil {
			return nil, fmt.Errorf("write runtime %s: %w", name, err)
		}
	}
	return programs, nil
}
