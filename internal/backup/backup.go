// Package backup is the form of a sealed file: everything that is written to it is encrypted with a key made of a passphrase, and reading it finds out whether it is
// whole and unchanged. It reads and writes the streams that it is given (docs/backup.md).
package backup

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"golang.org/x/crypto/argon2"
)

// header is the first line of a file, as JSON. It is not secret, and the first piece is bound to it.
type header struct {
	Format  string
	Version int
	// Parameters of argon2id: passes, KiB of memory, threads.
	Time, Memory uint32
	Threads      uint8
	Salt         []byte
}

const (
	format  = "shoal sealed file"
	version = 1

	// The cost of one try at a passphrase: what RFC 9106 recommends for machines with little memory.
	argonTime, argonMemory, argonThreads = 3, 64 << 10, 4
	// What a file may ask for at most, so that a forged one does not exhaust the machine.
	maxTime, maxMemory = 16, 1 << 20

	saltSize  = 16
	keySize   = 32
	pieceSize = 64 << 10 // bytes of content in a piece; only the last one has fewer
	maxHeader = 4 << 10
)

var (
	// ErrSealed says that a file cannot be opened with the passphrase. Whether that or the file is wrong cannot be told.
	ErrSealed = errdefs.ErrInvalidArgument.WithMessage("the passphrase is wrong, or the beginning of the file is damaged")
	// ErrDamaged says that a file ends too early or was changed.
	ErrDamaged = errdefs.ErrInvalidArgument.WithMessage("the file is damaged: it ends too early or was changed")
	// ErrNoPassphrase says that nothing is sealed without a passphrase.
	ErrNoPassphrase = errdefs.ErrInvalidArgument.WithMessage("a passphrase is needed")
)

// sealer has the state of either direction: pieces are numbered, and the last one is marked, so that none can be left out, exchanged or cut off.
type sealer struct {
	aead   cipher.AEAD
	number uint64
	bound  []byte // what the next piece is bound to: the header for the first
}

func newSealer(h header, line []byte, passphrase string) (*sealer, error) {
	key := argon2.IDKey([]byte(passphrase), h.Salt, h.Time, h.Memory, h.Threads, keySize)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead: aead, bound: line}, nil
}

// nonce is that of the next piece. The key is used for one file only.
func (s *sealer) nonce(last bool) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	binary.BigEndian.PutUint64(nonce, s.number)
	if last {
		nonce[len(nonce)-1] = 1
	}
	s.number++
	return nonce
}

// Writer seals what is written to it. Close must be called at the end: without the last piece the file is damaged.
type Writer struct {
	*sealer
	to      io.Writer
	pending []byte
}

// Seal begins a sealed file.
func Seal(to io.Writer, passphrase string) (*Writer, error) {
	if passphrase == "" {
		return nil, ErrNoPassphrase
	}
	h := header{Format: format, Version: version, Time: argonTime, Memory: argonMemory, Threads: argonThreads, Salt: make([]byte, saltSize)}
	_, _ = rand.Read(h.Salt) // never fails
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	line = append(line, '\n')
	s, err := newSealer(h, line, passphrase)
	if err != nil {
		return nil, err
	}
	if _, err := to.Write(line); err != nil {
		return nil, fmt.Errorf("write header: %w", err)
	}
	return &Writer{sealer: s, to: to}, nil
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	w.pending = append(w.pending, p...)
	for len(w.pending) > pieceSize {
		if err := w.piece(w.pending[:pieceSize], false); err != nil {
			return 0, err
		}
		w.pending = append(w.pending[:0], w.pending[pieceSize:]...)
	}
	return len(p), nil
}

func (w *Writer) piece(content []byte, last bool) error {
	sealed := w.aead.Seal(nil, w.nonce(last), content, w.bound) // #nosec G407 -- a counter, and a key for this file only
	w.bound = nil
	_, err := w.to.Write(sealed)
	return err
}

// Close writes the last piece. It does not close what is written to.
func (w *Writer) Close() error { return w.piece(w.pending, true) }

// Reader reads a sealed file. It returns io.EOF only after the last piece, so that what was read to its end is whole.
type Reader struct {
	*sealer
	from *bufio.Reader
	rest []byte
	last bool
}

// Open begins to read a sealed file. The error is ErrSealed if the passphrase does not fit.
func Open(from io.Reader, passphrase string) (*Reader, error) {
	if passphrase == "" {
		return nil, ErrNoPassphrase
	}
	buffered := bufio.NewReaderSize(from, pieceSize+maxHeader)
	line, err := buffered.ReadSlice('\n')
	if err != nil || len(line) > maxHeader {
		return nil, errdefs.ErrInvalidArgument.WithMessage("this is not a sealed file of shoal's")
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil || h.Format != format {
		return nil, errdefs.ErrInvalidArgument.WithMessage("this is not a sealed file of shoal's")
	}
	if h.Version > version {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the file has the form %d, and this version of shoal reads none later than %d", h.Version, version))
	}
	if h.Time == 0 || h.Time > maxTime || h.Memory == 0 || h.Memory > maxMemory || h.Threads == 0 {
		return nil, ErrDamaged
	}
	s, err := newSealer(h, append([]byte(nil), line...), passphrase)
	if err != nil {
		return nil, err
	}
	r := &Reader{sealer: s, from: buffered}
	if err := r.next(); err != nil {
		if errors.Is(err, ErrDamaged) {
			return nil, ErrSealed
		}
		return nil, err
	}
	return r, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.last {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next reads a piece. It is the last one if nothing follows it.
func (r *Reader) next() error {
	sealed := make([]byte, pieceSize+r.aead.Overhead())
	n, err := io.ReadFull(r.from, sealed)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read: %w", err)
	}
	_, after := r.from.Peek(1)
	if after != nil && !errors.Is(after, io.EOF) {
		return fmt.Errorf("read: %w", after)
	}
	r.last = after != nil
	content, err := r.aead.Open(nil, r.nonce(r.last), sealed[:n], r.bound)
	if err != nil {
		return ErrDamaged
	}
	r.rest, r.bound = content, nil
	return nil
}
