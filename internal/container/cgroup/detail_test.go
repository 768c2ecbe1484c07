package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestCountersOfBlockDevicesAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\n\nx rbytes=1\n8:16 rbytes=junk\n")
	bytes, operations := readIOStat(path)
	if want := []IO{{8, 0, "read", 1}, {8, 0, "write", 2}}; !reflect.DeepEqual(bytes, want) {
		t.Errorf("%v", bytes)
	}
	if want := []IO{{8, 0, "read", 3}, {8, 0, "write", 4}}; !reflect.DeepEqual(operations, want) {
		t.Errorf("%v", operations)
	}
	write("8:0 Read 7\n8:0 Write 8\nTotal 15\n")
	if got, want := readBlkio(path), []IO{{8, 0, "read", 7}, {8, 0, "write", 8}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	write("cache 4096\nrss 12\nodd\n")
	if got, want := readCounters(path), map[string]uint64{"cache": 4096, "rss": 12}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	write("10 20 \n")
	if got := readNumbers(path); !reflect.DeepEqual(got, []uint64{10, 20}) {
		t.Errorf("%v", got)
	}
	if d := ReadDetail("/shoal-no-such"); len(d.MemoryStat) != 0 || d.Bytes != nil || d.MemoryPeak != 0 {
		t.Errorf("of no cgroup: %+v", d)
	}
}
