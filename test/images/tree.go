package images

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// entry is a file of an image: a regular file, or a symbolic link when link is set, or a directory when dir is.
type entry struct {
	data     []byte
	mode     int64
	uid, gid int
	link     string
	dir      bool
}

// tree is an image's files by path without a leading slash.
type tree map[string]entry

func (t tree) text(name, data string, mode int64) { t[name] = entry{data: []byte(data), mode: mode} }

func (t tree) directory(name string, mode int64) { t[name] = entry{dir: true, mode: mode} }

func (t tree) link(name, target string) { t[name] = entry{link: target} }

// file copies a file of this machine into the tree.
func (t tree) file(name, from string, mode int64) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	t[name] = entry{data: data, mode: mode}
	return nil
}

// tar packs the tree, parents first, with fixed times, so that the same files give the same bytes.
func (t tree) tar() ([]byte, error) {
	full := maps.Clone(t)
	for name := range t {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := full[dir]; !ok {
				full[dir] = entry{dir: true, mode: 0o755}
			}
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(full)) {
		e := full[name]
		h := &tar.Header{
			Name: strings.TrimPrefix(name, "/"), Mode: e.mode, Uid: e.uid, Gid: e.gid,
			Typeflag: tar.TypeReg, Size: int64(len(e.data)), ModTime: time.Unix(1700000000, 0), Format: tar.FormatPAX,
		}
		switch {
		case e.dir:
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		case e.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func opener(data []byte) tarball.Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}
