package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	testimages "github.com/shoal-dev/shoal/test/images"
)

// A part of a copy must not look like all of it.
func TestACopyDuringWhichTheContainerEndsIsCutOff(t *testing.T) {
	h := newDockerHost(t)
	paths, err := testimages.Build(t.Context(), testimages.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	docker := func(args ...string) {
		t.Helper()
		if out, code := h.docker("", args...); code != 0 {
			t.Fatalf("docker %v: exit %d, %s", args, code, out)
		}
	}
	docker("load", "-i", paths["busybox"])
	docker("run", "-d", "--name", "copied", "--stop-signal", "KILL", "busybox", "sleep", "1000")
	docker("exec", "copied", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=64") // more than sockets and pipes hold
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.socket)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://docker/containers/copied/archive?path=/big", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var begin strings.Builder
	if _, err := io.CopyN(&begin, response.Body, 4096); err != nil {
		t.Fatalf("%s: %q, %v", response.Status, begin.String(), err)
	}
	docker("stop", "copied")
	if n, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the response ends after %d more bytes with %v", n, err)
	}
}
