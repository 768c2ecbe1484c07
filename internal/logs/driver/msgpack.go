package driver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"time"
)

// What follows is as much of msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md) as fluentd's protocol takes.

// appendArrayHeader begins an array of less than 16 elements.
func appendArrayHeader(out []byte, n int) []byte { return append(out, 0x90|byte(n)) }

// appendString adds a text.
func appendString(out []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		out = append(out, 0xa0|byte(n))
	case n <= math.MaxUint8:
		out = append(out, 0xd9, byte(n))
	case n <= math.MaxUint16:
		out = binary.BigEndian.AppendUint16(append(out, 0xda), uint16(n))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(n))
	}
	return append(out, s...)
}

// appendInt adds a number.
func appendInt(out []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(out, 0xd3), uint64(n))
}

// appendMap adds a map, sorted by its keys.
func appendMap(out []byte, m map[string]string) []byte {
	if n := len(m); n < 16 {
		out = append(out, 0x80|byte(n))
	} else {
		out = binary.BigEndian.AppendUint16(append(out, 0xde), uint16(n))
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = appendString(appendString(out, key), m[key])
	}
	return out
}

// appendEventTime adds a time with nanoseconds, which is an extension of fluentd's.
func appendEventTime(out []byte, at time.Time) []byte {
	out = binary.BigEndian.AppendUint32(append(out, 0xd7, 0x00), uint32(at.Unix()))
	return binary.BigEndian.AppendUint32(out, uint32(at.Nanosecond()))
}

// errNotAnAnswer says that what was read is no small map of texts.
var errNotAnAnswer = errors.New("malformed answer")

// readMap reads a map of less than 16 short texts.
func readMap(r *bufio.Reader) (map[string]string, error) {
	head, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	if head&0xf0 != 0x80 {
		return nil, errNotAnAnswer
	}
	m := map[string]string{}
	for range head & 0x0f {
		key, err := readString(r)
		if err != nil {
			return nil, err
		}
		if m[key], err = readString(r); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readString reads a text of at most 255 bytes.
func readString(r *bufio.Reader) (string, error) {
	head, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	n := head & 0x1f
	switch {
	case head == 0xd9:
		if n, err = r.ReadByte(); err != nil {
			return "", err
		}
	case head&0xe0 != 0xa0:
		return "", errNotAnAnswer
	}
	text := make([]byte, n)
	_, err = io.ReadFull(r, text)
	return string(text), err
}
