package vm

import (
	"net"
	"testing"
	"time"
)

func TestAFrameReachesAllOthers(t *testing.T) {
	const machines = 3
	w, err := NewNetwork(t.TempDir(), machines)
	if err != nil {
		t.Fatal(err)
	}
	cards := map[int]*net.UnixConn{}
	for place := 1; place < machines; place++ { // the last is off
		own, _ := w.plug(place)
		card, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer card.Close()
		if err := card.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		cards[place] = card
	}
	frame := make([]byte, 1500)
	for _, way := range []struct{ from, to int }{{1, 2}, {2, 1}} {
		_, theirs := w.plug(way.from)
		if _, err := cards[way.from].WriteToUnix([]byte{byte(way.from)}, &net.UnixAddr{Name: theirs, Net: "unixgram"}); err != nil {
			t.Fatal(err)
		}
		// The first frame that arrives is the other's: one's own does not come back.
		if n, err := cards[way.to].Read(frame); err != nil || n != 1 || frame[0] != byte(way.from) {
			t.Errorf("from %d to %d: %v, %v", way.from, way.to, frame[:n], err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
