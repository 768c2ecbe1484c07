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
