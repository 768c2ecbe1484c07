package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Proof shows that whoever makes a certificate request has the key of an older certificate, which need not be valid any more.
type Proof struct {
	Cert      []byte // PEM: the older certificate and what it was issued with
	Signature []byte // ASN.1: of the request, by the key of that certificate
}

// proofDigest is what is signed. Its first words keep the signature from being of use for anything else.
func proofDigest(csrPEM []byte) []byte {
	digest := sha256.Sum256(append([]byte("shoal: request for the successor of a certificate\x00"), csrPEM...))
	return digest[:]
}

// Prove signs a certificate request with the node's present key.
func (id *Identity) Prove(csrPEM []byte) (Proof, error) {
	pair := id.tlsCertificate()
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return Proof{}, errors.New("prove identity: the node's key cannot sign")
	}
	signature, err := signer.Sign(rand.Reader, proofDigest(csrPEM), crypto.SHA256)
	if err != nil {
		return Proof{}, fmt.Errorf("prove identity: %w", err)
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return Proof{chain, signature}, nil
}

// CheckProof returns the certificate that a proof is of, if it has been issued under this root, whenever that was, and the request is signed with its
// key. Other proofs are refused with shoal.PermissionDenied.
func (r *Root) CheckProof(proof Proof, csrPEM []byte) (*x509.Certificate, error) {
	leaf, others, err := parseChain(proof.Cert)
	if err != nil {
		return nil, shoal.PermissionDenied("a certificate of this cluster is needed: %v", err)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: r.Pool(), Intermediates: others, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CurrentTime: leaf.NotAfter.Add(-time.Second), // when it was still valid
	})
	if err != nil {
		return nil, shoal.PermissionDenied("certificate: %v", err)
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(key, proofDigest(csrPEM), proof.Signature) {
		return nil, shoal.PermissionDenied("the request is not signed with the key of the certificate")
	}
	return leaf, nil
}
