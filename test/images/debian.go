package images

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// unpack downloads Debian packages and extracts them into one directory, which the caller removes.
func unpack(ctx context.Context, cache string, packages ...string) (string, error) {
	dir, err := os.MkdirTemp(cache, "unpack-*")
	if err != nil {
		return "", err
	}
	if err := unpackInto(ctx, dir, packages); err != nil {
		return "", fmt.Errorf("unpack %v: %w", packages, removing(dir, err))
	}
	return dir, nil
}

func removing(dir string, err error) error {
	_ = os.RemoveAll(dir)
	return err
}

func unpackInto(ctx context.Context, dir string, packages []string) error {
	debs, root := filepath.Join(dir, "debs"), filepath.Join(dir, "root")
	for _, d := range []string{debs, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	download := func() error {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-qq", "-o", "APT::Sandbox::User=root"}, packages...)...)
		cmd.Dir = debs
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get download: %w: %s", err, out)
		}
		return nil
	}
	if err := download(); err != nil {
		// Package lists may be missing or old.
		if out, updateErr := exec.CommandContext(ctx, "apt-get", "update", "-qq").CombinedOutput(); updateErr != nil {
			return fmt.Errorf("apt-get update: %w: %s", updateErr, out)
		}
		if err := download(); err != nil {
			return err
		}
	}
	found, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range found {
		if out, err := exec.CommandContext(ctx, "dpkg", "-x", deb, root).CombinedOutput(); err != nil {
			return fmt.Errorf("extract %s: %w: %s", filepath.Base(deb), err, out)
		}
	}
	return nil
}

// program copies an ELF program and, transitively, the libraries it needs from root into the tree.
func (t tree) program(root, name string) error {
	if err := t.file(name, filepath.Join(root, name), 0o755); err != nil {
		return err
	}
	file, err := elf.Open(filepath.Join(root, name))
	if err != nil {
		return err
	}
	defer file.Close()
	needed, err := file.ImportedLibraries()
	if err != nil {
		return err
	}
	if section := file.Section(".interp"); section != nil {
		data, err := section.Data()
		if err != nil {
			return err
		}
		interp := path.Clean(string(data[1 : len(data)-1]))
		found, err := library(root, path.Base(interp))
		if err != nil {
			return err
		}
		if err := t.file(interp, found, 0o755); err != nil {
			return err
		}
	}
	for _, lib := range needed {
		found, err := library(root, lib)
		if err != nil {
			return err
		}
		if err := t.library(root, lib, found); err != nil {
			return err
		}
	}
	return nil
}

// library copies one library under the name that programs ask for, and what it needs itself.
func (t tree) library(root, name, found string) error {
	at := "lib/" + name
	if _, ok := t[at]; ok {
		return nil
	}
	if err := t.file(at, found, 0o755); err != nil {
		return err
	}
	file, err := elf.Open(found)
	if err != nil {
		return err
	}
	defer file.Close()
	needed, err := file.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, lib := range needed {
		found, err := library(root, lib)
		if err != nil {
			return err
		}
		if err := t.library(root, lib, found); err != nil {
			return err
		}
	}
	return nil
}

// library finds a library in the multi-arch directories of an extracted root.
func library(root, name string) (string, error) {
	for _, pattern := range []string{"lib/*-linux-gnu", "usr/lib/*-linux-gnu", "lib", "lib64", "usr/lib"} {
		found, err := filepath.Glob(filepath.Join(root, pattern, name))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return filepath.EvalSymlinks(found[0])
		}
	}
	return "", fmt.Errorf("library %s is in none of the packages", name)
}
