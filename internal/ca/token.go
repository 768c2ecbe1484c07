package ca

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"math/big"
	"strings"
)

const (
	tokenPrefix  = "SWMTKN"
	tokenVersion = "1"
	digestLength = 50 // base-36 digits of 256 bits
	secretLength = 25 // base-36 digits of 128 bits
)

// ErrBadToken says, in Docker's words, that a text is not a join token.
var ErrBadToken = errors.New("invalid join token")

// Token is a join token. Digest is the SHA-256 of the root certificate to trust; the secret part decides which role is granted.
type Token struct {
	Digest [sha256.Size]byte
	secret string
}

// NewToken makes a token with a new secret, as printed: "SWMTKN-1-<digest>-<secret>".
func NewToken(root *Root) (string, error) {
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", err
	}
	digest := root.Digest()
	return strings.Join([]string{tokenPrefix, tokenVersion, base36(digest[:], digestLength), base36(secret[:], secretLength)}, "-"), nil
}

// ParseToken reads a printed token; the error is ErrBadToken.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != tokenPrefix || parts[1] != tokenVersion ||
		len(parts[2]) != digestLength || len(parts[3]) != secretLength {
		return Token{}, ErrBadToken
	}
	n, ok := new(big.Int).SetString(parts[2], 36)
	if !ok || n.BitLen() > 8*sha256.Size {
		return Token{}, ErrBadToken
	}
	var t Token
	n.FillBytes(t.Digest[:])
	t.secret = parts[3]
	return t, nil
}

// SameToken compares two printed tokens in constant time.
func SameToken(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func base36(b []byte, length int) string {
	text := new(big.Int).SetBytes(b).Text(36)
	return strings.Repeat("0", length-len(text)) + text
}
