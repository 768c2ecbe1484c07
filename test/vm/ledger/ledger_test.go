package ledger

import (
	"slices"
	"testing"
)

func TestLedgerHoldsTheDaemonToItsWord(t *testing.T) {
	l := New()
	lines := []string{
		"try volume make a", "ack volume make a A", "try volume make b", "ack volume make b B", "try volume remove b", "ack volume remove b", "try volume make c", "try volume remove a",
		"try volume make e", "ack volume make e E",
	}
	if err := l.Enter(lines[:2]); err != nil {
		t.Fatal(err)
	}
	if err := l.Enter(lines); err != nil || l.Acks != 4 {
		t.Fatal(err, l.Acks)
	}
	if wrong := l.Compare(Objects{"volume a": "A", "volume c": "C", "volume e": "E"}); wrong != nil {
		t.Errorf("%q", wrong)
	}
	if got := l.Names("volume", ""); !slices.Equal(got, []string{"a", "c", "e"}) {
		t.Errorf("%q", got)
	}
	if got := l.Acknowledged("volume"); !slices.Equal(got, []string{"e"}) {
		t.Errorf("%q", got)
	}
	want := []string{
		"volume a is not there, though it was made", "volume b is there again, though it was removed", `volume e is "X", and was made as "E"`, "volume d is there, though nobody asked for it",
	}
	if wrong := l.Compare(Objects{"volume b": "B", "volume c": "C", "volume d": "D", "volume e": "X"}); !slices.Equal(wrong, want) {
		t.Errorf("%q", wrong)
	}
	for _, nonsense := range []string{"half a li", "ack volume make g", "try volume make"} {
		if err := l.Enter(append(slices.Clone(lines), nonsense)); err == nil {
			t.Errorf("%q was entered", nonsense)
		}
	}
}
