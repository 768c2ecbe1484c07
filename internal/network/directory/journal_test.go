package directory

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestTheJournalOutlivesACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.json")
	j, table, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", strings.Repeat("b", minCompactSize), "c"} {
		next := table.Clone()
		next.Services = map[shoal.ServiceID]shoal.ServiceEntry{"s": {ID: "s", Name: name}}
		delta := shoal.Difference(table, next)
		table = next
		if err := j.Append(&delta, func() shoal.Table { return table.Clone() }); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") > 3 {
		t.Errorf("the journal was not compacted: %d bytes, %v", len(text), err)
	}
	// The daemon was killed while it wrote.
	if err := os.WriteFile(path, append(text, `{"Services":{"s":`...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, got, err := OpenJournal(path)
	if err != nil || !reflect.DeepEqual(got.Services, table.Services) {
		t.Errorf("read %+v, %v", got.Services, err)
	}
}
