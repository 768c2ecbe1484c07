package atomicfile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkWrite is what a record costs, beside the same steps without flushes.
func BenchmarkWrite(b *testing.B) {
	const size = 6 << 10 // a container's record
	data := make([]byte, size)
	path := filepath.Join(b.TempDir(), "record.json") // where TMPDIR is in memory, flushes cost nothing
	b.Run("flushed", func(b *testing.B) {
		for b.Loop() {
			if err := Write(path, data, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) {
		type entry struct{ Name, Value string }
		entries := make([]entry, size/50)
		for i := range entries {
			entries[i] = entry{"a field of the record", "and its value"}
		}
		encoded, err := json.Marshal(struct{ Entries []entry }{entries})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := WriteRecord[struct{ Entries []entry }](Write, path, encoded, 1, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("not flushed", func(b *testing.B) {
		for b.Loop() {
			if err := os.WriteFile(path+newSuffix, data, 0o600); err != nil {
				b.Fatal(err)
			}
			if err := os.Rename(path+newSuffix, path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
