package membership

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// The backup of a cluster with more objects than a transaction may write could be made, read and verified, and not be restored.
func TestALargeClusterIsRestored(t *testing.T) {
	const tasks, node = store.MaxTxnOps + 1, shoal.NodeID("n1")
	memory := store.NewMemory()
	s, err := store.Open(t.Context(), store.Config{Backend: memory, Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	first := store.Changes{}
	first.Put(&shoal.Cluster{ID: "c", Spec: shoal.ClusterSpec{Name: "default"}})
	first.Put(&shoal.Node{ID: node, Spec: shoal.NodeSpec{Role: shoal.RoleManager}})
	if _, err := s.CommitNoWait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	var all []*shoal.Task
	for i := range tasks {
		all = append(all, &shoal.Task{ID: shoal.TaskID(fmt.Sprintf("t%d", i)), ServiceID: "s", Slot: uint64(i + 1)})
	}
	for part := range slices.Chunk(all, 1000) {
		changes := store.Changes{}
		for _, task := range part {
			changes.Put(task)
		}
		if _, err := s.CommitNoWait(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	records, revision, err := memory.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records = slices.DeleteFunc(records, func(r store.Record) bool { return r.Key == store.EpochKey })
	var file bytes.Buffer
	head := saved{Version: savedVersion, ClusterID: "c", NodeID: node, Revision: revision, SealingKey: make([]byte, 32), Records: len(records)}
	if err := writeBackup(&file, "secret", head, records); err != nil {
		t.Fatal(err)
	}
	head, read, err := readBackup(&file, "secret")
	if err != nil {
		t.Fatal(err)
	}
	back, cluster, err := restored(t.Context(), head, read, State{AdvertiseAddr: netip.MustParseAddr("10.0.0.9"), Port: "2377"})
	if err != nil || cluster.ID != "c" || len(back) < len(records) {
		t.Errorf("restored: %d records of %d, %v", len(back), len(records), err)
	}
}
