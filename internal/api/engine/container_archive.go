package engine

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/go-archive"
	"github.com/moby/go-archive/chrootarchive"
	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
)

func (c *containers) registerArchive(rt *server.Router) {
	rt.Handle("HEAD /containers/{id}/archive", c.archiveStat)
	rt.Handle("GET /containers/{id}/archive", c.archiveGet)
	rt.Handle("PUT /containers/{id}/archive", c.archivePut)
	rt.Handle("GET /containers/{id}/export", c.export)
}

// pathStatHeader has what a file is, as JSON in base64, so that HEAD can answer without a body.
const pathStatHeader = "X-Docker-Container-Path-Stat"

func setPathStat(w http.ResponseWriter, st container.FileStat) error {
	data, err := json.Marshal(apicontainer.PathStat{Name: st.Name, Size: st.Size(), Mode: st.Mode(), Mtime: st.ModTime(), LinkTarget: st.LinkTarget})
	if err != nil {
		return fmt.Errorf("encode file: %w", err)
	}
	w.Header().Set(pathStatHeader, base64.StdEncoding.EncodeToString(data))
	return nil
}

func (c *containers) archiveStat(w http.ResponseWriter, r *http.Request) error {
	return c.engine.WithRoot(r.Context(), r.PathValue("id"), func(root string) error {
		st, err := container.Stat(root, r.FormValue("path"))
		if err != nil {
			return err
		}
		return setPathStat(w, st)
	})
}

func (c *containers) archiveGet(w http.ResponseWriter, r *http.Request) error {
	name := r.FormValue("path")
	defer c.engine.Tell(r.PathValue("id"), "archive-path", nil)
	return c.sendTar(w, r, func(root string) (io.ReadCloser, error) {
		st, err := container.Stat(root, name)
		if err != nil {
			return nil, err
		}
		if err := setPathStat(w, st); err != nil {
			return nil, err
		}
		at := st.At
		if strings.HasSuffix(name, "/.") {
			at += "/."
		}
		dir, base := archive.SplitPathDirEntry(at)
		options := archive.TarResourceRebaseOpts(base, path.Base(path.Join("/", name)))
		if dir == root && base == "." {
			options.ExcludePatterns = kernelFiles()
		}
		// With the slash, because a running container's root is a link of /proc, which would be packed itself.
		data, err := archive.TarWithOptions(dir+"/", options)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
		return data, nil
	})
}

func (c *containers) export(w http.ResponseWriter, r *http.Request) error {
	defer c.engine.Tell(r.PathValue("id"), "export", nil)
	return c.sendTar(w, r, func(root string) (io.ReadCloser, error) {
		data, err := archive.TarWithOptions(root+"/", &archive.TarOptions{ExcludePatterns: kernelFiles()})
		if err != nil {
			return nil, fmt.Errorf("pack container: %w", err)
		}
		return data, nil
	})
}

// kernelFiles are the patterns of what the kernel shows in a running container's file system.
func kernelFiles() []string { return []string{"proc/*", "sys/*", "dev/*"} }

// sendTar answers with the tar archive that pack makes of a container's files. An error after the first byte, as when the container
// ends meanwhile, cannot change the status any more: the connection is cut, so that the client does not take an incomplete archive for a complete one.
func (c *containers) sendTar(w http.ResponseWriter, r *http.Request, pack func(root string) (io.ReadCloser, error)) error {
	sending := false
	err := c.engine.WithRoot(r.Context(), r.PathValue("id"), func(root string) error {
		data, err := pack(root)
		if err != nil {
			return err
		}
		defer data.Close()
		w.Header().Set("Content-Type", "application/x-tar")
		sending = true
		_, _ = io.Copy(w, data) // if it fails, the end of the archive is missing, which tar notices
		return nil
	})
	if err != nil && sending {
		panic(http.ErrAbortHandler) // how net/http lets a handler cut the connection
	}
	return err
}

func (c *containers) archivePut(w http.ResponseWriter, r *http.Request) error {
	name := r.FormValue("path")
	err := c.engine.WithRoot(r.Context(), r.PathValue("id"), func(root string) error {
		at, err := continuity.RootPath(root, name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		st, err := container.Stat(root, strings.TrimPrefix(at, root))
		if err != nil {
			return err
		}
		if !st.IsDir() {
			return server.BadRequest("extraction point is not a directory")
		}
		if err := chrootarchive.UntarWithRoot(r.Body, at, &archive.TarOptions{NoOverwriteDirNonDir: server.BoolParam(r, "noOverwriteDirNonDir")}, root); err != nil {
			return fmt.Errorf("unpack into %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.engine.Tell(r.PathValue("id"), "extract-to-dir", nil)
	w.WriteHeader(http.StatusOK)
	return nil
}
