// Package ledger remembers what a daemon has acknowledged. It reads what was told of each step, and compares it with what there is; it writes nothing.
package ledger

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Objects is what there is, by "KIND NAME": of each what tells it from another one of its name, an ID or its content.
type Objects map[string]string

// Ledger is what the daemon has acknowledged.
type Ledger struct {
	objects Objects         // "" of what was removed
	open    map[string]bool // steps that were begun and not acknowledged: they may have happened, or not
	made    map[string]bool // of which the making was acknowledged
	read    int             // lines that were entered
	Acks    int             // how many steps were acknowledged
}

// New returns an empty ledger.
func New() *Ledger {
	return &Ledger{objects: Objects{}, open: map[string]bool{}, made: map[string]bool{}}
}

// Enter enters the lines that were told since the last call: "try KIND make|remove NAME", "ack KIND make NAME IDENTITY", "ack KIND remove NAME".
func (l *Ledger) Enter(lines []string) error {
	for _, line := range lines[l.read:] {
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[0] == "try":
			l.open[f[1]+" "+f[3]] = true
		case len(f) == 5 && f[0] == "ack" && f[2] == "make":
			l.Make(f[1]+" "+f[3], f[4])
		case len(f) == 4 && f[0] == "ack" && f[2] == "remove":
			l.Remove(f[1] + " " + f[3])
		default:
			return fmt.Errorf("cannot be understood: %q", line)
		}
	}
	l.read = len(lines)
	return nil
}

// Make enters that the making of an object was acknowledged.
func (l *Ledger) Make(object, identity string) {
	delete(l.open, object)
	l.objects[object], l.made[object] = identity, true
	l.Acks++
}

// Remove enters that the removal of an object was acknowledged.
func (l *Ledger) Remove(object string) {
	delete(l.open, object)
	delete(l.made, object)
	l.objects[object] = ""
	l.Acks++
}

// Compare returns what is not as it was acknowledged, given the objects that there are. Steps that were not acknowledged have happened, or not, as the
// objects say: from then on they count as acknowledged, or as never begun.
func (l *Ledger) Compare(there Objects) []string {
	var wrong []string
	for object := range l.open {
		l.objects[object] = there[object]
		delete(l.made, object) // nothing is promised of one whose making, or removal, was cut off
	}
	clear(l.open)
	for _, object := range slices.Sorted(maps.Keys(l.objects)) {
		switch want, got := l.objects[object], there[object]; {
		case want == got:
		case want == "":
			wrong = append(wrong, object+" is there again, though it was removed")
		case got == "":
			wrong = append(wrong, object+" is not there, though it was made")
		default:
			wrong = append(wrong, fmt.Sprintf("%s is %q, and was made as %q", object, got, want))
		}
	}
	for _, object := range slices.Sorted(maps.Keys(there)) {
		if _, known := l.objects[object]; !known {
			wrong = append(wrong, object+" is there, though nobody asked for it")
		}
	}
	return wrong
}

// Identity is what tells an object from another one of its name; "" if there is none.
func (l *Ledger) Identity(object string) string { return l.objects[object] }

// Acknowledged is the names of the objects of a kind of which the making was acknowledged, and the removal not even begun.
func (l *Ledger) Acknowledged(kind string) []string {
	return names(maps.Keys(l.made), kind)
}

// Names is the names of the objects of a kind that are there, whose name begins with a prefix.
func (l *Ledger) Names(kind, prefix string) []string {
	there := func(yield func(string) bool) {
		for object, identity := range l.objects {
			if identity != "" && !yield(object) {
				return
			}
		}
	}
	return slices.DeleteFunc(names(there, kind), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

func names(objects iter.Seq[string], kind string) []string {
	var names []string
	for object := range objects {
		if name, ok := strings.CutPrefix(object, kind+" "); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
