package store

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/go-memdb"

	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	indexID         = "id"
	indexIDPrefix   = "id_prefix"
	indexName       = "name"
	indexService    = "service"
	indexNode       = "node"
	indexSlot       = "slot"
	indexUnassigned = "unassigned"
	indexDependent  = "dependent"
)

// index is an index of go-memdb: key returns what an object is found by, and false for an object that is not in the index.
type index struct {
	key func(o Object) ([]byte, bool)
}

func (x index) FromObject(raw any) (bool, []byte, error) {
	o, ok := raw.(Object)
	if !ok {
		return false, nil, fmt.Errorf("%T is not an object", raw)
	}
	key, ok := x.key(o)
	return ok, key, nil
}

func (x index) FromArgs(args ...any) ([]byte, error) {
	var key []byte
	for _, arg := range args {
		switch arg := arg.(type) {
		case string:
			key = append(key, text(arg)...)
		case uint64:
			key = binary.BigEndian.AppendUint64(key, arg)
		case bool:
			key = append(key, 1)
		default:
			return nil, fmt.Errorf("%T is not a key", arg)
		}
	}
	return key, nil
}

func (x index) PrefixFromArgs(args ...any) ([]byte, error) {
	key, err := x.FromArgs(args...)
	if err != nil || len(key) == 0 {
		return nil, err
	}
	return key[:len(key)-1], nil // without the terminator, so that longer texts match
}

// text encodes a string as part of a key. It ends with a zero byte, so that "web" does not match the beginning of "web2".
func text(s string) []byte { return append([]byte(s), 0) }

func newDB() (*memdb.MemDB, error) {
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, k := range []Kind{KindCluster, KindConfig, KindNetwork, KindNode, KindSecret, KindService, KindTask} {
		table := &memdb.TableSchema{Name: string(k), Indexes: map[string]*memdb.IndexSchema{
			indexID: {Name: indexID, Unique: true, Indexer: index{func(o Object) ([]byte, bool) {
				return text(o.ObjectID()), o.ObjectID() != ""
			}}},
		}}
		add := func(name string, key func(o Object) ([]byte, bool)) {
			table.Indexes[name] = &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: index{key}}
		}
		switch k {
		case KindTask:
			addTaskIndexes(add)
		case KindService:
			add(indexName, func(o Object) ([]byte, bool) { return text(nameOf(o)), true })
			add(indexDependent, func(o Object) ([]byte, bool) {
				return []byte{1}, o.(*shoal.Service).Spec.Labels[shoal.LabelDependsOn] != ""
			})
		case KindNode:
			add(indexName, func(o Object) ([]byte, bool) { return text(o.(*shoal.Node).Description.Hostname), true })
		default:
			add(indexName, func(o Object) ([]byte, bool) { return text(nameOf(o)), nameOf(o) != "" })
		}
		schema.Tables[string(k)] = table
	}
	return memdb.NewMemDB(schema)
}

func addTaskIndexes(add func(string, func(Object) ([]byte, bool))) {
	add(indexService, func(o Object) ([]byte, bool) {
		t := o.(*shoal.Task)
		return text(string(t.ServiceID)), t.ServiceID != ""
	})
	add(indexNode, func(o Object) ([]byte, bool) {
		t := o.(*shoal.Task)
		return text(string(t.NodeID)), t.NodeID != ""
	})
	add(indexSlot, func(o Object) ([]byte, bool) {
		t := o.(*shoal.Task)
		return binary.BigEndian.AppendUint64(text(string(t.ServiceID)), t.Slot), t.ServiceID != "" && t.Slot != 0
	})
	add(indexUnassigned, func(o Object) ([]byte, bool) {
		t := o.(*shoal.Task)
		return []byte{1}, t.Status.State < shoal.TaskAssigned
	})
}

// mustInsert inserts an object. It panics on an error, which only a mistake in the schema can cause, whatever the object contains.
func mustInsert(txn *memdb.Txn, o Object) {
	if err := txn.Insert(string(KindOf(o)), o); err != nil {
		panic("store: insert " + string(KindOf(o)) + ": " + err.Error())
	}
}

// mustDelete deletes an object, and panics as mustInsert does.
func mustDelete(txn *memdb.Txn, o Object) {
	if _, err := txn.DeleteAll(string(KindOf(o)), indexID, o.ObjectID()); err != nil {
		panic("store: delete " + string(KindOf(o)) + ": " + err.Error())
	}
}
