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

// Token is what a joining node reads from a join token. The rest of the token, a secret for each role, only has to be sent to a manager.
type Token struct {
	Digest [sha256.Size]byte // of the root certificate to trust: see Root.Digest
}

// NewToken makes the text of a join token with a new secret: "SWMTKN-1-<digest of root>-<secret>", both in base 36.
func NewToken(root *Root) (string, error) {
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", err
	}
	digest := root.Digest()
	return strings.Join([]string{tokenPrefix, tokenVersion, base36(digest[:], digestLength), base36(secret[:], secretLength)}, "-"), nil
}

// ParseToken reads the text of a join token. The error is ErrBadToken.
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
	return t, nil
}

// SameToken compares the texts of two join tokens, in a time that does not depend on how much of them is equal.
func SameToken(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func base36(b []byte, length int) string {
	text := new(big.Int).SetBytes(b).Text(36)
	return strings.Repeat("0", length-len(text)) + text
}
