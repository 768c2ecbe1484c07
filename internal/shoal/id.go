package shoal

import (
	"crypto/rand"
	"math/big"
	"time"
)

// ID names a cluster object: 25 characters of base 36, as Docker's swarm objects have. Containers, local networks and
// volumes have their own forms (64 hex digits, names).
type ID = string

const idLength = 25

// NewID returns a random ID. 25 digits of base 36 hold 129 bits, so that 128 random ones always fit.
func NewID() ID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	text := new(big.Int).SetBytes(b[:]).Text(36)
	for len(text) < idLength {
		text = "0" + text
	}
	return text
}

// Meta is what every stored object has. Version is the store revision of its last change; the store sets it.
type Meta struct {
	ID        ID
	Version   uint64 `json:"-"`
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Head is the Meta of any stored object, so that rooms can handle objects of all kinds alike.
func (m *Meta) Head() *Meta { return m }
