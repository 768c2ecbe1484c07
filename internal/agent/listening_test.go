package agent

import "testing"

func TestListenerReadsTheKernelsTable(t *testing.T) {
	for _, tc := range []struct {
		line string
		port uint16
		ok   bool
	}{
		{"  0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000", 80, true},
		{"  0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0", 8080, true},
		{"  1: 0100007F:0050 00000000:0000 0A 0", 0, false},         // loopback only
		{"  2: 0B00A8C0:0050 0100A8C0:C350 01 0", 0, false},         // established
		{"  sl  local_address rem_address   st tx_queue", 0, false}, // header
		{"", 0, false},
	} {
		if port, ok := listener([]byte(tc.line)); port != tc.port || ok != tc.ok {
			t.Errorf("listener(%q) = %d, %v", tc.line, port, ok)
		}
	}
}

func TestATaskListensOnWhatItPublishesAndOnSomethingItExposes(t *testing.T) {
	for _, tc := range []struct {
		name               string
		open               []uint16
		published, exposed []uint16
		want               bool
	}{
		{"nothing asked", nil, nil, nil, true},
		{"not yet", nil, []uint16{80}, nil, false},
		{"one of two published", []uint16{80}, []uint16{80, 443}, nil, false},
		{"all published", []uint16{80, 443}, []uint16{80, 443}, nil, true},
		{"one of two exposed", []uint16{80}, nil, []uint16{80, 443}, true},
		{"published, but nothing exposed", []uint16{8080}, []uint16{8080}, []uint16{80}, false},
	} {
		open := map[uint16]bool{}
		for _, port := range tc.open {
			open[port] = true
		}
		if got := listens(open, tc.published, tc.exposed); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
