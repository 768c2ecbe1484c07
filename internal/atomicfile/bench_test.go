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
	dir, err := os.MkdirTemp(".", "bench-") // /tmp may be in memory
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "record.json")
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
