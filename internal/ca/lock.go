package ca

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// LockKey is the key of Docker's autolock: 256 random bits, shown as "SWMKEY-1-…", with which a manager encrypts the keys on its disk. A nil
// LockKey encrypts nothing.
type LockKey []byte

const (
	lockKeySize   = 32
	lockKeyPrefix = "SWMKEY-1-"
)

var (
	// ErrLocked says that data is locked and no key was given.
	ErrLocked = errors.New("it is locked")
	// ErrWrongKey says that data is locked with another key, or that a text is no key. Its text is Docker's.
	ErrWrongKey = errors.New("invalid key provided")
)

// NewLockKey makes a random key.
func NewLockKey() LockKey {
	key := make(LockKey, lockKeySize)
	_, _ = rand.Read(key) // crypto/rand.Read never fails
	return key
}

// ParseLockKey reads a key's text. An empty text is a nil key; what is no key is refused with ErrWrongKey.
func ParseLockKey(text string) (LockKey, error) {
	if text == "" {
		return nil, nil
	}
	encoded, ok := strings.CutPrefix(text, lockKeyPrefix)
	key, err := base64.RawStdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != lockKeySize {
		return nil, ErrWrongKey
	}
	return key, nil
}

// String is the key as `docker swarm unlock-key` prints it, "SWMKEY-1-" and 43 characters of base64; ParseLockKey reads it.
func (k LockKey) String() string { return lockKeyPrefix + base64.RawStdEncoding.EncodeToString(k) }

// lockedType is the type of the PEM block that locked data is in.
const lockedType = "SWARM LOCKED DATA"

// Lock encrypts data with AES-256-GCM and returns it as a PEM block. A nil key returns the data as it is.
func (k LockKey) Lock(data []byte) ([]byte, error) {
	if k == nil {
		return data, nil
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(nil, nil /* the AEAD draws a random one */, data, nil) // #nosec G407
	return pem.EncodeToMemory(&pem.Block{Type: lockedType, Bytes: sealed}), nil
}

// Open decrypts what Lock returned. Data that is not locked is returned as it is, whatever the key. The error wraps ErrLocked or ErrWrongKey.
func (k LockKey) Open(data []byte) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != lockedType {
		return data, nil
	}
	if k == nil {
		return nil, ErrLocked
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	open, err := aead.Open(nil, nil, block.Bytes, nil)
	if err != nil {
		return nil, ErrWrongKey
	}
	return open, nil
}

func (k LockKey) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, fmt.Errorf("use unlock key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use unlock key: %w", err)
	}
	return aead, nil
}

// memoryFile writes data to a file that exists in memory only (memfd_create(2)) and has a path which this process can open.
func memoryFile(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("node-key", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("keep node key in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd))
	if _, err := file.Write(data); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("keep node key in memory: %w", err)
	}
	return file, nil
}
