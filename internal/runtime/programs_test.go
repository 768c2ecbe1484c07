package runtime

import (
	"os"
	"testing"
)

// A loss of power while a program was unpacked left a shorter file, which every later start took for the program.
func TestAProgramCutShortIsUnpackedAgain(t *testing.T) {
	dir := t.TempDir()
	path, err := program("", dir, "runc")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, int64(len(whole) / 2)} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		again, err := program("", dir, "runc")
		if err != nil || again != path {
			t.Fatalf("%s, %v, want %s", again, err, path)
		}
		if got, err := os.Stat(path); err != nil || got.Size() != int64(len(whole)) {
			t.Errorf("cut to %d bytes, it has %v, %v", size, got.Size(), err)
		}
	}
	before, _ := os.Stat(path)
	if _, err := program("", dir, "runc"); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("a whole program was unpacked again: %v", err)
	}
}
