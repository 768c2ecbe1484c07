package atomicfile

import (
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
