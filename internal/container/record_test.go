package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/atomicfile/faulttest"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/quarantine"
)

// recorded is an engine without containerd, with the container of the record in dir, which is named c if there was none.
func recorded(t *testing.T, dir string) (*Engine, *container, error) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	e := New(Config{Log: log, Root: filepath.Join(dir, "containers"), State: dir, Events: &events.Bus{}, Quarantine: quarantine.Open(filepath.Join(dir, "quarantine"), log, &events.Bus{})})
	e.listed = true
	info := Info{ID: strings.Repeat("a", 64), Name: "c"}
	info.Dir = filepath.Join(e.Root, info.ID)
	was, ok, err := e.readRecord(info.Dir)
	if err != nil {
		return nil, nil, err
	}
	if ok {
		was.Dir = info.Dir
		return e, e.register(was), nil
	}
	return e, e.register(info), nil
}

// written makes the record of the container c.
func written(t *testing.T, dir string) {
	t.Helper()
	id := strings.Repeat("a", 64)
	encoded, err := json.Marshal(Info{ID: id, Name: "c"})
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Join(dir, "containers", id), 0o700), saveRecord(filepath.Join(dir, "containers", id), encoded, false))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// name is what a daemon that is started on the directory finds.
func name(t *testing.T, dir string) string {
	t.Helper()
	id := strings.Repeat("a", 64)
	var info Info
	err := atomicfile.ReadJSON(filepath.Join(dir, "containers", id, recordFile), &info)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "no container"
	case err != nil || info.ID != id:
		t.Errorf("%+v, %v", info, err)
	}
	return info.Name
}

func TestChangesAndRemovalsMeetEveryFault(t *testing.T) {
	do := func(what func(*Engine, *container) error) func(string) error {
		return func(dir string) error {
			e, c, err := recorded(t, dir)
			if err != nil {
				return err
			}
			return what(e, c)
		}
	}
	t.Run("rename", func(t *testing.T) {
		const steps = 5
		faulttest.Run(t, steps, faulttest.Case{Prepare: written, Before: "c", After: "renamed", State: name,
			Do: do(func(e *Engine, _ *container) error { return e.Rename("c", "renamed") })})
	})
	t.Run("remove", func(t *testing.T) {
		const steps = 2
		faulttest.Run(t, steps, faulttest.Case{Prepare: written, Before: "c", After: "no container", State: name,
			Do: do(func(_ *Engine, c *container) error { return c.forget() })})
	})
	t.Run("create", func(t *testing.T) {
		const steps = 9 // two folders made and flushed; create, write, flush, rename, flush
		faulttest.Run(t, steps, faulttest.Case{Before: "no container", After: "c", State: name, Do: func(dir string) error {
			info := Info{ID: strings.Repeat("a", 64), Name: "c", Dir: filepath.Join(dir, "containers", strings.Repeat("a", 64))}
			if err := atomicfile.Mkdir(info.Dir, 0o700); err != nil {
				return err
			}
			encoded, err := json.Marshal(info)
			return errors.Join(err, saveRecord(info.Dir, encoded, false))
		}})
	})
	t.Run("change of an expendable container", func(t *testing.T) {
		const steps = 4 // create, write, flush, rename
		faulttest.Run(t, steps, faulttest.Case{Prepare: written, Before: "c", After: "renamed", State: name, Unacknowledged: true,
			Do: do(func(e *Engine, c *container) error {
				c.expendable = true
				return e.Rename("c", "renamed")
			})})
	})
}

// While the disk was slow, `docker inspect` of a container whose state had just changed waited for it, and with it `docker ps`.
func TestASlowDiskKeepsNobodyFromReading(t *testing.T) {
	dir := t.TempDir()
	written(t, dir)
	e, c, err := recorded(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	flushing, goOn := make(chan struct{}, 8), make(chan struct{})
	var flushes int
	defer atomicfile.SetFailpoint(filepath.Join(dir, "containers"), func(step atomicfile.Step, _ string) error {
		if step == atomicfile.StepFlush {
			flushes++
			flushing <- struct{}{}
			<-goOn
		}
		return nil
	})()
	const changes = 20
	done := make(chan struct{}, changes)
	change := func(n int) {
		e.update(c, func(i *Info) { i.RestartCount = max(i.RestartCount, n) })
		done <- struct{}{}
	}
	go change(1)
	<-flushing
	for n := 2; n <= changes; n++ {
		go change(n)
	}
	read := make(chan int, 1)
	go func() {
		for {
			info, changed, _ := e.Watch("c")
			if info.RestartCount == changes {
				read <- len(e.List(nil))
				return
			}
			<-changed
		}
	}()
	select {
	case n := <-read:
		if n != 1 {
			t.Errorf("%d containers", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("reading waits for the disk")
	}
	if len(done) > 0 {
		t.Error("a change was acknowledged before it was on the disk")
	}
	close(goOn)
	for range changes {
		<-done
	}
	var info Info
	if err := atomicfile.ReadJSON(filepath.Join(c.info.Dir, recordFile), &info); err != nil || info.RestartCount != changes {
		t.Errorf("%+v, %v", info, err)
	}
	if flushes > 3 { // the first, and one for all that waited for it
		t.Errorf("%d changes took %d flushes", changes, flushes)
	}
}

// A record that could not be flushed was written only with the container's next change, if there was one.
func TestARecordThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	dir := t.TempDir()
	written(t, dir)
	e, c, err := recorded(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []atomicfile.Step{atomicfile.StepFlushDir, atomicfile.StepWrite} {
		end := atomicfile.SetFailpoint(c.info.Dir, func(step atomicfile.Step, path string) error {
			if step == at {
				return &os.PathError{Op: string(step), Path: path, Err: syscall.ENOSPC}
			}
			return nil
		})
		if err := e.Rename(c.id, "n-"+string(at[0])); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("acknowledged: %v", err)
		}
		end()
		if got := fmt.Sprint(e.Quarantine.Problems()); !strings.Contains(got, c.id) {
			t.Error(got)
		}
		var flushed bool
		end = atomicfile.SetFailpoint(c.info.Dir, func(step atomicfile.Step, _ string) error {
			flushed = flushed || step == atomicfile.StepFlushDir
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = e.Quarantine.Run(ctx) }()
		for limit := time.Now().Add(10 * time.Second); len(e.Quarantine.Problems()) > 0 && time.Now().Before(limit); {
			<-time.After(10 * time.Millisecond)
		}
		cancel()
		<-done
		end()
		if got := name(t, dir); got != "n-"+string(at[0]) || !flushed {
			t.Errorf("it is %s, flushed %v", got, flushed)
		}
	}
}

// What this daemon does not know of a record stays in it.
func TestARecordOfANewerDaemonKeepsWhatThisOneDoesNotKnow(t *testing.T) {
	dir := t.TempDir()
	written(t, dir)
	file := filepath.Join(dir, "containers", strings.Repeat("a", 64), recordFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Replace(text, []byte(`"Spec":{`), []byte(`"Spec":{"NUMANode":1,`), 1)
	if err := os.WriteFile(file, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	e, c, err := recorded(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	e.update(c, func(i *Info) { i.RestartCount = 7 })
	text, err = os.ReadFile(file)
	if err != nil || !bytes.Contains(text, []byte(`"NUMANode":1`)) || !bytes.Contains(text, []byte(`"RestartCount":7`)) {
		t.Errorf("%s, %v", text, err)
	}
}

// A fault in what watches a container ended the daemon.
func TestAFaultInTheBackgroundIsNamed(t *testing.T) {
	dir := t.TempDir()
	written(t, dir)
	e, c, err := recorded(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	e.inBackground(c, "watch", func() { panic("no exit") })
	e.background.Wait()
	if got := fmt.Sprint(e.Quarantine.Problems()); !strings.Contains(got, "watch of container "+c.id) || !strings.Contains(got, "no exit") {
		t.Error(got)
	}
}
