package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"

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
	name := r.FormValue("path")
	return archiveError(r, c.engine.WithRoot(r.Context(), r.PathValue("id"), func(root string) error {
		st, err := container.Stat(root, name)
		if err != nil {
			return err
		}
		return setPathStat(w, st)
	}))
}

// archiveError is what a client is told of a copy that failed.
func archiveError(r *http.Request, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return server.Errorf(http.StatusNotFound, "Could not find the file %s in container %s", r.FormValue("path"), r.PathValue("id"))
	}
	return err
}

func (c *containers) archiveGet(w http.ResponseWriter, r *http.Request) error {
	name := r.FormValue("path")
	defer c.engine.Tell(r.PathValue("id"), "archive-path", nil)
	return archiveError(r, c.sendTar(w, r, c.engine.WithRoot, func(root string) (io.ReadCloser, error) {
		st, err := container.Stat(root, name)
		if err != nil {
			return nil, err
		}
		if err := setPathStat(w, st); err != nil {
			return nil, err
		}
		dir, base := st.At, "."
		if !st.IsDir() {
			dir, base = path.Split(st.At)
		}
		options := archive.TarResourceRebaseOpts(base, st.Name)
		if path.Clean(dir) == root {
			options.ExcludePatterns = kernelFiles()
		}
		// With the slash, because a running container's root is a link of /proc, which would be packed itself.
		data, err := archive.TarWithOptions(path.Clean(dir)+"/", options)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
		return data, nil
	}))
}

func (c *containers) export(w http.ResponseWriter, r *http.Request) error {
	defer c.engine.Tell(r.PathValue("id"), "export", nil)
	return c.sendTar(w, r, c.engine.WithOwnFiles, func(root string) (io.ReadCloser, error) {
		data, err := archive.TarWithOptions(root+"/", &archive.TarOptions{ExcludePatterns: kernelFiles()})
		if err != nil {
			return nil, fmt.Errorf("pack container: %w", err)
		}
		return data, nil
	})
}

// kernelFiles are the patterns of what the kernel shows in a running container's file system.
func kernelFiles() []string { return []string{"proc/*", "sys/*", "dev/*"} }

// withFiles calls do with the directory of a container's files.
type withFiles func(ctx context.Context, ref string, do func(root string) error) error

// sendTar answers with the tar archive that pack makes of a container's files. An error after the first byte, as when the container
// ends meanwhile, cannot change the status any more: the connection is cut, so that the client does not take an incomplete archive for a complete one.
func (c *containers) sendTar(w http.ResponseWriter, r *http.Request, with withFiles, pack func(root string) (io.ReadCloser, error)) error {
	sending := false
	err := with(r.Context(), r.PathValue("id"), func(root string) error {
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
	name, ref := r.FormValue("path"), r.PathValue("id")
	info, err := c.engine.Inspect(ref)
	if err != nil {
		return err
	}
	options := &archive.TarOptions{NoOverwriteDirNonDir: server.BoolParam(r, "noOverwriteDirNonDir")}
	if server.BoolParam(r, "copyUIDGID") {
		uid, gid, ok, err := c.engine.Owner(r.Context(), ref)
		if err != nil {
			return err
		}
		if ok {
			options.ChownOpts = &archive.ChownOpts{UID: uid, GID: gid}
		}
	}
	err = c.engine.WithRoot(r.Context(), ref, func(root string) error {
		at, err := extractionPoint(info, root, name)
		if err != nil {
			return err
		}
		if err := chrootarchive.UntarWithRoot(r.Body, at, options, root); err != nil {
			return errors.New(strings.ReplaceAll(err.Error(), root, "")) // a path of the host, and files that are not the one that was asked for
		}
		return nil
	})
	if err != nil {
		return archiveError(r, err)
	}
	c.engine.Tell(r.PathValue("id"), "extract-to-dir", nil)
	w.WriteHeader(http.StatusOK)
	return nil
}

// extractionPoint is the directory that an archive is unpacked into. Links are followed, also the last.
func extractionPoint(info container.Info, root, name string) (string, error) {
	st, err := container.Stat(root, name)
	if err == nil && st.LinkTarget != "" {
		st, err = container.Stat(root, st.LinkTarget)
	}
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", server.BadRequest("extraction point is not a directory")
	}
	at := path.Clean(st.At)
	return at, container.CheckWritable(info, path.Join("/", strings.TrimPrefix(at, root)))
}
