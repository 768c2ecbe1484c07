package etcd

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
)

func TestWarningsOfEtcdAreLogged(t *testing.T) {
	var out bytes.Buffer
	log := newZapLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), newFailure())
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

// etcd calls Fatal where it gives up, as on a full disk, and zap then ends the process: with it went the API, DNS and the readers of logs.
func TestWhatIsFatalToEtcdEndsOneGoroutineOnly(t *testing.T) {
	var out bytes.Buffer
	failed := newFailure()
	log := newZapLogger(slog.New(slog.NewTextHandler(&out, nil)), failed)
	for _, giveUp := range []func(){
		func() { log.Fatal("failed to save entries", zap.Error(syscall.ENOSPC)) },
		func() { log.Panic("failed to close") },
	} {
		ended := make(chan bool)
		go func() {
			returned := false
			defer func() { ended <- returned }()
			giveUp()
			returned = true
		}()
		if <-ended {
			t.Error("etcd goes on after it has given up")
		}
	}
	<-failed.failed
	if err := failed.cause(); !errors.Is(err, syscall.ENOSPC) || err.Error() != "failed to save entries: no space left on device" {
		t.Errorf("the reason is %v", err)
	}
	if !strings.Contains(out.String(), `level=ERROR msg="failed to save entries"`) {
		t.Errorf("logged:\n%s", out.String())
	}
}
