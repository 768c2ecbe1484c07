package etcd

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestWarningsOfEtcdAreLogged(t *testing.T) {
	var out bytes.Buffer
	log := newZapLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	log.Info("nothing to see")
	log.With(zap.String("member", "n1")).Warn("slow fdatasync", zap.Int("took", 3))
	log.Error("failed to write WAL", zap.Error(errors.New("no space left on device")))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("logged:\n%s", out.String())
	}
	for i, want := range []string{
		`level=WARN msg="slow fdatasync" etcd.member=n1 etcd.took=3`,
		`level=ERROR msg="failed to write WAL" etcd.error="no space left on device"`,
	} {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("%s\nwant %s", lines[i], want)
		}
	}
}
