package atomicfile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The record as this daemon knows it, and as one that is two versions newer does.
type (
	inner struct {
		Size  int
		Limit int `json:",omitempty"`
	}
	meta   struct{ Created time.Time }
	record struct {
		meta
		Name   string
		Spec   inner
		Extra  *inner `json:"extra,omitempty"`
		Labels map[string]string
		Cached int `json:"-"`
		secret int
	}
	newerInner struct {
		Size, Limit int
		Burst       int
	}
	newerRecord struct {
		SchemaVersion int
		Name          string
		Spec          newerInner
		Extra         newerInner `json:"extra"`
		Labels        map[string]string
		Owner         struct{ Team string }
		Cached        int // names that encoding/json does not give to the older daemon's fields
		Secret        string
	}
)

func TestFieldsOfANewerDaemonSurviveARewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	newer := newerRecord{SchemaVersion: 3, Name: "old", Spec: newerInner{1, 2, 3}, Extra: newerInner{4, 5, 6}, Labels: map[string]string{"gone": "x"}}
	newer.Owner.Team, newer.Cached, newer.Secret = "net", 8, "s"
	if err := WriteJSON(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	var known record
	if err := ReadJSON(path, &known); err != nil {
		t.Fatal(err)
	}
	known.Cached, known.secret = 1, 1
	known.Name, known.Spec.Limit, known.Labels = "new", 0, map[string]string{"b": "y"}
	encoded, err := json.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := WriteRecord[record](Write, path, encoded, 1, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got newerRecord
	if err := ReadJSON(path, &got); err != nil {
		t.Fatal(err)
	}
	want := newer
	want.Name, want.Spec.Limit, want.Labels = "new", 0, map[string]string{"b": "y"} // what this daemon knows is as it has written it
	if a, b := text(t, got), text(t, want); a != b {
		t.Errorf("got\n%s, want\n%s", a, b)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestARecordHasItsVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	for _, before := range []string{"", "half a rec", `{"Name":"without"}`} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := WriteRecord[record](Write, path, []byte(`{"Name":"n"}`), 2, 0o600); err != nil {
			t.Fatal(err)
		}
		var got newerRecord
		if err := ReadJSON(path, &got); err != nil || got.SchemaVersion != 2 || got.Name != "n" {
			t.Errorf("over %q: %+v, %v", before, got, err)
		}
	}
	if err := WriteRecord[record](Write, path, []byte(`[]`), 1, 0o600); err == nil {
		t.Error("a list is a record")
	}
}
