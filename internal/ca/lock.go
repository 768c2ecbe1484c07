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

// LockKey encrypts a manager's keys on its disk (autolock): 256 random bits, printed as "SWMKEY-1-…". A nil key encrypts nothing.
type LockKey []byte

const (
	lockKeySize   = 32
	lockKeyPrefix = "SWMKEY-1-"
)

var (
	// ErrLocked says that a file is encrypted and no key was given.
	ErrLocked = errors.New("it is locked")
	// ErrWrongKey says that a key does not decrypt a file, or that a text is not a key.
	ErrWrongKey = errors.New("invalid key provided")
)

// NewLockKey makes a random key.
func NewLockKey() LockKey {
	key := make(LockKey, lockKeySize)
	_, _ = rand.Read(key) // crypto/rand.Read never fails
	return key
}

// ParseLockKey reads a printed key. Empty text is the nil key; any other text that is not a key is ErrWrongKey.
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

// String is the key as Docker's users know it. It must not be called on a nil key.
func (k LockKey) String() string { return lockKeyPrefix + base64.RawStdEncoding.EncodeToString(k) }

const lockedType = "SWARM LOCKED DATA"

// Lock encrypts data with AES-256-GCM into a PEM block. A nil key returns the data as it is.
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

// Open decrypts what Lock has made; data that is not encrypted is returned as it is. The error is ErrLocked if k is nil, ErrWrongKey
// if it is another key.
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

// memoryFile makes a file in memory (memfd_create(2)) that code of this process can open by name.
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
