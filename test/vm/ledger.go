package vm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Ledger is what the daemon has acknowledged, by object: "KIND NAME".
type Ledger struct {
	present map[string]bool // false for what was removed
	open    map[string]bool // steps that were begun and not acknowledged: they may have happened, or not
	made    map[string]bool // of which the making was acknowledged
	read    int             // lines that were entered
	Acks    int             // how many steps were acknowledged
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{present: map[string]bool{}, open: map[string]bool{}, made: map[string]bool{}}
}

// Enter enters the lines that were told since the last call: "try|ack KIND make|remove NAME".
func (l *Ledger) Enter(lines []string) error {
	for _, line := range lines[l.read:] {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != "try" && f[0] != "ack" {
			return fmt.Errorf("cannot be understood: %q", line)
		}
		object := f[1] + " " + f[3]
		if f[0] == "try" {
			l.open[object] = true
			continue
		}
		delete(l.open, object)
		l.present[object] = f[2] == "make"
		l.made[object] = l.present[object]
		l.Acks++
	}
	l.read = len(lines)
	return nil
}

// Compare returns what is not as it was acknowledged, given the objects that there are. Steps that were not acknowledged have happened, or not, as the
// objects say: from then on they count as acknowledged, or as never begun.
func (l *Ledger) Compare(there map[string]bool) []string {
	var wrong []string
	for object := range l.open {
		l.present[object] = there[object]
		delete(l.made, object) // nothing is promised of one whose making, or removal, was cut off
	}
	clear(l.open)
	for _, object := range slices.Sorted(maps.Keys(l.present)) {
		if want := l.present[object]; want != there[object] {
			state := "is there again, though it was removed"
			if want {
				state = "is not there, though it was made"
			}
			wrong = append(wrong, object+" "+state)
		}
	}
	for _, object := range slices.Sorted(maps.Keys(there)) {
		if _, known := l.present[object]; !known {
			wrong = append(wrong, object+" is there, though nobody asked for it")
		}
	}
	return wrong
}

// Acknowledged tells whether the making of an object was acknowledged, and its removal not even begun.
func (l *Ledger) Acknowledged(object string) bool { return l.made[object] && !l.open[object] }

// Names is the names of the objects of a kind that are there.
func (l *Ledger) Names(kind string) []string {
	var names []string
	for object, present := range l.present {
		if name, ok := strings.CutPrefix(object, kind+" "); ok && present {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
