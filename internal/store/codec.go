package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// KeySize is the length of a sealing key in bytes.
const KeySize = 32

// codec turns objects into values and back. What is secret in them is sealed with AES-256-GCM, tied to the object's key.
type codec struct {
	aead cipher.AEAD // nil: nothing is sealed
}

func newCodec(key []byte) (*codec, error) {
	if len(key) == 0 {
		return &codec{}, nil
	}
	if len(key) != KeySize {
		return nil, fmt.Errorf("sealing key has %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use sealing key: %w", err)
	}
	return &codec{aead}, nil
}

func keyOf(k Kind, id shoal.ID) string     { return Prefix + string(k) + "/" + id }
func nameKeyOf(k Kind, name string) string { return Prefix + "name/" + string(k) + "/" + name }
func parseKey(key string) (Kind, string, bool) {
	kind, id, ok := strings.Cut(strings.TrimPrefix(key, Prefix), "/")
	return Kind(kind), id, ok && kind != "name"
}

// secretsOf is the fields of an object that are sealed.
func secretsOf(o Object) []*[]byte {
	switch o := o.(type) {
	case *shoal.Secret:
		return []*[]byte{&o.Data}
	case *shoal.Cluster:
		return []*[]byte{&o.RootKey}
	}
	return nil
}

// encode may overwrite fields of o, which must be the codec's own copy.
func (c *codec) encode(o Object) ([]byte, error) {
	if c.aead != nil {
		for _, field := range secretsOf(o) {
			if *field != nil {
				*field = c.aead.Seal(nil, nil /* the AEAD draws a random one */, *field, []byte(keyOf(KindOf(o), o.Head().ID))) // #nosec G407
			}
		}
	}
	return json.Marshal(o)
}

func (c *codec) decode(r Record) (Object, error) {
	kind, _, _ := parseKey(r.Key)
	o, err := newObject(kind)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(r.Value, o); err != nil {
		return nil, fmt.Errorf("decode %s: %w", r.Key, err)
	}
	if c.aead != nil {
		for _, field := range secretsOf(o) {
			if *field == nil {
				continue
			}
			if *field, err = c.aead.Open(nil, nil, *field, []byte(r.Key)); err != nil {
				return nil, fmt.Errorf("unseal %s: %w", r.Key, err)
			}
		}
	}
	o.Head().Version = r.Rev
	return o, nil
}

// LoadKey reads the sealing key in a file, and makes one if there is no such file. All managers of a cluster need the same
// key: whoever admits a manager hands it over, and the new one writes it with SaveKey before it opens its store.
func LoadKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) != KeySize {
		return nil, fmt.Errorf("read sealing key %s: %d bytes, want %d", path, len(key), KeySize)
	}
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, KeySize)
		_, _ = rand.Read(key) // crypto/rand.Read never fails
		return key, SaveKey(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	return key, nil
}

// SaveKey writes a sealing key to a file that only root can read.
func SaveKey(path string, key []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write sealing key: %w", err)
	}
	if err := os.WriteFile(path+".new", key, 0o600); err != nil {
		return fmt.Errorf("write sealing key: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write sealing key: %w", err)
	}
	return nil
}
