package shoal

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestReadyCheckOf(t *testing.T) {
	for _, tc := range []struct {
		labels  string // "http=:80 interval=1s"
		want    ReadyCheck
		refused string
	}{
		{"http=:8080/healthz", ReadyCheck{HTTP: netip.MustParseAddrPort("127.0.0.1:8080"), Path: "/healthz", Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}, ""},
		{"http=:80", ReadyCheck{HTTP: netip.MustParseAddrPort("127.0.0.1:80"), Path: "/", Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}, ""},
		{"tcp=[::1]:53 interval=50ms timeout=20ms failures=1", ReadyCheck{TCP: netip.MustParseAddrPort("[::1]:53"), Interval: 50 * time.Millisecond, Timeout: 20 * time.Millisecond, Failures: 1}, ""},
		{"cmd=true", ReadyCheck{Command: "true", Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}, ""},
		{"tcp=80", ReadyCheck{}, "no address with a port"},
		{"tcp=:0", ReadyCheck{}, "no address with a port"},
		{"tcp=:80 http=:80", ReadyCheck{}, "exactly one"},
		{"interval=1s", ReadyCheck{}, "exactly one"},
		{"tcp=:80 interval=0s", ReadyCheck{}, "no time of at least"},
		{"tcp=:80 failures=0", ReadyCheck{}, "no number above 0"},
		{"tcp=:80 retries=1", ReadyCheck{}, "is none of"},
		{"cmd=", ReadyCheck{}, "no command"},
	} {
		labels := map[string]string{"other": "label"}
		for pair := range strings.FieldsSeq(tc.labels) {
			name, value, _ := strings.Cut(pair, "=")
			labels[ReadyLabel+name] = value
		}
		got, err := ReadyCheckOf(labels)
		switch {
		case tc.refused == "" && (err != nil || *got != tc.want):
			t.Errorf("%s: %+v, %v", tc.labels, got, err)
		case tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)):
			t.Errorf("%s: %v", tc.labels, err)
		}
	}
	if got, err := ReadyCheckOf(map[string]string{"a": "b"}); got != nil || err != nil {
		t.Errorf("without labels: %+v, %v", got, err)
	}
}
