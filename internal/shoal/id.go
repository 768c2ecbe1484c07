package shoal

import (
	"crypto/rand"
	"encoding/hex"
	"math/big"
	"time"
)

// Each kind of object has IDs of its own type, so that the ID of one cannot be used where another is meant. All are 25
// characters of [0-9a-z], as in Docker Swarm, except those of networks of one node only: 64 hex digits. The zero value names nothing.
type (
	// ClusterID is the ID of a Cluster.
	ClusterID string
	// ConfigID is the ID of a Config.
	ConfigID string
	// NetworkID is the ID of a Network, of the cluster or of one node.
	NetworkID string
	// NodeID is the ID of a Node. It is the common name of the node's certificate.
	NodeID string
	// SecretID is the ID of a Secret.
	SecretID string
	// ServiceID is the ID of a Service.
	ServiceID string
	// TaskID is the ID of a Task.
	TaskID string
)

const idLength = 25

// NewID makes a random ID: 128 bits in base 36, which is 25 characters.
func NewID[ID ~string]() ID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	text := new(big.Int).SetBytes(b[:]).Text(36)
	for len(text) < idLength {
		text = "0" + text
	}
	return ID(text)
}

// Meta holds the fields that every stored object has besides its ID. The store sets them.
type Meta struct {
	// Version is the store's revision at which the object was last written; 0 for an object that was never stored.
	Version   uint64 `json:"-"`
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Head is the object's Meta, for code that handles objects of all kinds alike.
func (m *Meta) Head() *Meta { return m }

// ObjectID is the ID of the cluster as text, for code that handles objects of all kinds alike.
func (c *Cluster) ObjectID() string { return string(c.ID) }

// ObjectID is the ID of the network as text.
func (n *Network) ObjectID() string { return string(n.ID) }

// ObjectID is the ID of the node as text.
func (n *Node) ObjectID() string { return string(n.ID) }

// ObjectID is the ID of the secret or config as text.
func (o *FileObject[ID]) ObjectID() string { return string(o.ID) }

// ObjectID is the ID of the service as text.
func (s *Service) ObjectID() string { return string(s.ID) }

// ObjectID is the ID of the task as text.
func (t *Task) ObjectID() string { return string(t.ID) }

// NewLocalID makes the ID of something that only one node has, such as an endpoint: 64 random hex digits, as Docker does.
func NewLocalID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return hex.EncodeToString(b[:])
}
