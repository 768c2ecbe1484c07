package runtime

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/shoal-dev/shoal/internal/atomicfile"
)

// assets holds the compressed programs, if hack/build-assets.sh has built them before this package was compiled.
//
//go:embed assets
var assets embed.FS

// programs are the absolute paths of the programs that containers are run with.
type programs struct {
	shim string
	oci  string // the OCI runtime, runc or crun
}

// findPrograms takes the programs that the configuration names, else those that are embedded, else those on PATH.
func findPrograms(c Config) (programs, error) {
	dir := filepath.Join(c.Root, "programs")
	shim, err := program(c.Shim, dir, "shoal-shim", "shoal-shim", "containerd-shim-runc-v2")
	if err != nil {
		return programs{}, err
	}
	oci, err := program(c.OCI, dir, "runc", "runc", "crun")
	if err != nil {
		return programs{}, err
	}
	return programs{shim: shim, oci: oci}, nil
}

// program finds one program. given is its path by the configuration, "" for none; dir is where an embedded one is unpacked.
func program(given, dir, asset string, onPath ...string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	packed, err := assets.Open("assets/" + asset + ".zst")
	if err == nil {
		defer func() { _ = packed.Close() }()
		return unpack(dir, asset, packed)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("open embedded %s: %w", asset, err)
	}
	for _, name := range onPath {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("find %s: neither built into this binary nor on PATH", asset)
}

// isUnpacked tells whether the program at path has the size of the embedded one. Since it is flushed to the disk before it gets its name it is whole
// if it is there at all; what an earlier version of the daemon unpacked before a loss of power may be shorter.
func isUnpacked(path, name string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	packed, err := assets.Open("assets/" + name + ".zst")
	if err != nil {
		return false
	}
	defer func() { _ = packed.Close() }()
	start := make([]byte, zstd.HeaderMaxSize)
	size, err := io.ReadFull(packed, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	var header zstd.Header
	if header.Decode(start[:size]) != nil || !header.HasFCS {
		return info.Size() > 0
	}
	return uint64(info.Size()) == header.FrameContentSize //nolint:gosec // sizes are not negative
}

// unpack writes an embedded program into a folder that is named by the hash of its content, unless it is there already. Folders of older
// versions stay, because shims that run were started from them. The hash was taken by the build: to take it here would read megabytes
// into memory at every start.
func unpack(dir, name string, packed fs.File) (string, error) {
	sum, err := assets.ReadFile("assets/" + name + ".sum")
	if err != nil {
		return "", fmt.Errorf("read hash of embedded %s: %w", name, err)
	}
	path := filepath.Join(dir, string(bytes.TrimSpace(sum)), name)
	if isUnpacked(path, name) {
		return path, nil
	}
	if err := atomicfile.Mkdir(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	r, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	defer r.Close()
	tmp, err := os.CreateTemp(filepath.Dir(path), name+"-*")
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, r)
	if err := errors.Join(err, tmp.Chmod(0o755), tmp.Sync(), tmp.Close()); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	if err := atomicfile.Rename(tmp.Name(), path); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	return path, nil
}
