package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// KeySize is the length of a sealing key in bytes.
const KeySize = 32

// codec encodes objects as JSON and decodes them. Secret fields are sealed with AES-256-GCM; the object's key is the associated
// data, so that a sealed value cannot be moved to another object.
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

func keyOf(k Kind, id string) string       { return Prefix + string(k) + "/" + id }
func nameKeyOf(k Kind, name string) string { return Prefix + "name/" + string(k) + "/" + name }
func parseKey(key string) (Kind, string, bool) {
	kind, id, ok := strings.Cut(strings.TrimPrefix(key, Prefix), "/")
	return Kind(kind), id, ok && kind != "name"
}

// secretsOf is the byte fields of an object that are sealed. o must be a copy that the codec may change.
func secretsOf(o Object) []*[]byte {
	switch o := o.(type) {
	case *shoal.Secret:
		return []*[]byte{&o.Data, &o.Previous}
	case *shoal.Cluster:
		if o.Rotation == nil {
			return []*[]byte{&o.RootKey, &o.TunnelSecret}
		}
		rotation := *o.Rotation // the copy shares it with the original
		o.Rotation = &rotation
		return []*[]byte{&o.RootKey, &o.TunnelSecret, &rotation.Key}
	}
	return nil
}

// secretTextsOf is the string fields of an object that are sealed. o must be a copy that the codec may change.
func secretTextsOf(o Object) []*string {
	switch o := o.(type) {
	case *shoal.Cluster:
		return []*string{&o.Tokens.Worker, &o.Tokens.Manager, &o.UnlockKey}
	case *shoal.Task:
		return []*string{&o.Spec.RegistryAuth}
	case *shoal.Service:
		texts := []*string{&o.Spec.Task.RegistryAuth}
		if o.PreviousSpec != nil {
			previous := *o.PreviousSpec // the copy shares it with the original
			o.PreviousSpec = &previous
			texts = append(texts, &previous.Task.RegistryAuth)
		}
		return texts
	}
	return nil
}

// encode seals the secret fields of o in place, so o must be a copy, and returns its JSON.
func (c *codec) encode(o Object) ([]byte, error) {
	if c.aead != nil {
		associatedData := []byte(keyOf(KindOf(o), o.ObjectID()))
		for _, field := range secretsOf(o) {
			if *field != nil {
				*field = c.aead.Seal(nil, nil /* the AEAD draws a random one */, *field, associatedData) // #nosec G407
			}
		}
		for _, text := range secretTextsOf(o) {
			if *text != "" {
				*text = base64.StdEncoding.EncodeToString(c.aead.Seal(nil, nil, []byte(*text), associatedData)) // #nosec G407
			}
		}
	}
	return json.Marshal(o)
}

// unseal decrypts the fields that encode has sealed.
func (c *codec) unseal(o Object, key string) error {
	if c.aead == nil {
		return nil
	}
	for _, field := range secretsOf(o) {
		if *field == nil {
			continue
		}
		open, err := c.aead.Open(nil, nil, *field, []byte(key))
		if err != nil {
			return fmt.Errorf("unseal %s: %w", key, err)
		}
		*field = open
	}
	for _, text := range secretTextsOf(o) {
		if *text == "" {
			continue
		}
		sealed, err := base64.StdEncoding.DecodeString(*text)
		if err != nil {
			return fmt.Errorf("unseal %s: %w", key, err)
		}
		open, err := c.aead.Open(nil, nil, sealed, []byte(key))
		if err != nil {
			return fmt.Errorf("unseal %s: %w", key, err)
		}
		*text = string(open)
	}
	return nil
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
	if err := c.unseal(o, r.Key); err != nil {
		return nil, err
	}
	o.Head().Version = r.Rev
	return o, nil
}

// NewKey makes a sealing key. All managers of a cluster need the same one.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // crypto/rand.Read never fails
	return key
}
