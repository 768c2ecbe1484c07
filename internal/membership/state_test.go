package membership

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/atomicfile/faulttest"
	"github.com/shoal-dev/shoal/internal/rpc"
)

// TestStateOfANewerDaemonKeepsWhatThisOneDoesNotKnow: after a downgrade a node's first session rewrote its state, and the newer daemon missed what it had put there.
func TestStateOfANewerDaemonKeepsWhatThisOneDoesNotKnow(t *testing.T) {
	m := New(Config{Log: slog.New(slog.DiscardHandler), Dir: filepath.Join(t.TempDir(), "swarm")})
	m.state = State{AdvertiseAddr: netip.MustParseAddr("10.0.0.1"), Port: "2377", Managers: []string{"10.0.0.1:2377"}}
	if err := m.saveState(m.state); err != nil {
		t.Fatal(err)
	}
	record := readFields(t, m.stateFile())
	if string(record["SchemaVersion"]) != "1" {
		t.Errorf("the schema version is %q", record["SchemaVersion"])
	}
	record["SchemaVersion"], record["Zone"] = json.RawMessage("7"), json.RawMessage(`"north"`)
	if err := atomicfile.WriteJSON(m.stateFile(), record, 0o600); err != nil {
		t.Fatal(err)
	}
	state, err := m.readState()
	if err != nil || state.NodeAddr() != "10.0.0.1:2377" {
		t.Fatalf("%+v, %v", state, err)
	}
	m.welcomed(rpc.Welcome{Managers: []string{"10.0.0.2:2377"}})
	record = readFields(t, m.stateFile())
	if string(record["SchemaVersion"]) != "7" || string(record["Zone"]) != `"north"` || string(record["Managers"]) != `["10.0.0.2:2377"]` {
		t.Errorf("%s", record)
	}
}

func readFields(t *testing.T, path string) map[string]json.RawMessage {
	t.Helper()
	var record map[string]json.RawMessage
	if err := atomicfile.ReadJSON(path, &record); err != nil {
		t.Fatal(err)
	}
	return record
}

// TestTheFolderOfTheStateOutlivesAPowerCut: the state was flushed into a folder that was not.
func TestTheFolderOfTheStateOutlivesAPowerCut(t *testing.T) {
	const steps = 7 // a folder made and flushed; create, write, flush, rename, flush
	at := func(dir string) *Membership {
		return New(Config{Log: slog.New(slog.DiscardHandler), Dir: filepath.Join(dir, "swarm")})
	}
	faulttest.Run(t, steps, faulttest.Case{
		Before: "nothing", After: "10.0.0.1:2377",
		Do: func(dir string) error { return at(dir).saveState(State{Managers: []string{"10.0.0.1:2377"}}) },
		State: func(t *testing.T, dir string) string {
			state, err := at(dir).readState()
			if errors.Is(err, os.ErrNotExist) {
				return "nothing"
			}
			if err != nil || !slices.Equal(state.Managers, []string{"10.0.0.1:2377"}) {
				t.Errorf("%+v, %v", state, err)
			}
			return state.Managers[0]
		},
	})
}
