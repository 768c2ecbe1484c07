package fault

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestAPanicIsAnErrorOfTheWorkThatMetIt(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	err := Contain(log, "exec in a container", func() error { panic("no gateway") })
	if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), "no gateway") || strings.Contains(err.Error(), "fault_test.go") {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"exec in a container", "no gateway", "fault_test.go"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, text.String())
		}
	}
	other := errors.New("not found")
	if err := Contain(log, "x", func() error { return other }); err != other { //nolint:errorlint // the very value
		t.Errorf("%v", err)
	}
	if err := Contain(nil, "x", func() error { var list []int; _ = list[len(list)]; return nil }); err == nil {
		t.Error("a runtime error is none")
	}
	if Do(log, "x", func() { panic(1) }) || !Do(log, "x", func() {}) {
		t.Error("Do does not tell the end from a panic")
	}
}
