package driver

import (
	"crypto/rand"
	"encoding/hex"
)

// newID names something that has no name: 64 hexadecimal digits.
func newID() string {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}

// Parts tells which messages are parts of one line. Each stream of a container has its own.
type Parts struct {
	id      string
	ordinal int
}

// Next is the part that the next piece of a stream is, nil for a whole line; ends tells whether the piece ends its line.
func (p *Parts) Next(ends bool) *Partial {
	if p.id == "" {
		if ends {
			return nil
		}
		p.id = newID()
	}
	p.ordinal++
	part := &Partial{ID: p.id, Ordinal: p.ordinal, Last: ends}
	if ends {
		*p = Parts{}
	}
	return part
}
