package vm

import (
	"slices"
	"testing"
)

func TestLedgerHoldsTheDaemonToItsWord(t *testing.T) {
	l := NewLedger()
	lines := []string{"try volume make a", "ack volume make a", "try volume make b", "ack volume make b", "try volume remove b", "ack volume remove b", "try volume make c", "try volume remove a"}
	if err := l.Enter(lines[:2]); err != nil {
		t.Fatal(err)
	}
	if err := l.Enter(lines); err != nil || l.Acks != 3 {
		t.Fatal(err, l.Acks)
	}
	if wrong := l.Compare(map[string]bool{"volume a": true, "volume c": true}); wrong != nil {
		t.Errorf("%q", wrong)
	}
	if got := l.Names("volume"); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("%q", got)
	}
	want := []string{"volume a is not there, though it was made", "volume b is there again, though it was removed", "volume d is there, though nobody asked for it"}
	if wrong := l.Compare(map[string]bool{"volume b": true, "volume c": true, "volume d": true}); !slices.Equal(wrong, want) {
		t.Errorf("%q", wrong)
	}
	if err := l.Enter(append(lines, "half a li")); err == nil {
		t.Error("nonsense was entered")
	}
}
