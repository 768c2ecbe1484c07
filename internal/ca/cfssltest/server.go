// Package cfssltest is a certificate authority outside of a cluster, for tests: it answers the signing call of cfssl's API as cfssl does. It reads the
// requests of managers and writes certificates of the root that it is given.
package cfssltest

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
)

// Expiry is how long the certificates are valid.
const Expiry = 2 * time.Hour

// Request is what a manager has asked for.
type Request struct {
	Client  string // the common name of the manager's certificate
	Subject string // the common name that the certificate is to have
	Profile string
}

// Server is the authority.
type Server struct {
	// URL is of the signing call.
	URL string

	root tls.Certificate

	mu       sync.Mutex // guards all below
	requests []Request
	refusal  string
	alter    func(*x509.Certificate)
}

// New serves an authority that has the root's key, under a certificate of that root, until the test ends. It answers only clients with a certificate of that
// root or of one of the others.
func New(t testing.TB, listener net.Listener, root *ca.Root, others ...*ca.Root) *Server {
	t.Helper()
	pair, err := tls.X509KeyPair(root.CertPEM, root.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{URL: "https://" + listener.Addr().String() + "/api/v1/cfssl/sign", root: pair}
	own, err := s.ownCertificate(listener.Addr())
	if err != nil {
		t.Fatal(err)
	}
	clients := root.Pool()
	for _, other := range others {
		clients.AppendCertsFromPEM(other.CertPEM)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

// Listen is a listener for New, on the loopback interface.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// ownCertificate is for the address that the server is reached at.
func (s *Server) ownCertificate(addr net.Addr) (tls.Certificate, error) {
	keyPEM, csrPEM, err := ca.NewRequest()
	if err != nil {
		return tls.Certificate{}, err
	}
	block, _ := pem.Decode(csrPEM)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return tls.Certificate{}, err
	}
	template := newTemplate()
	template.Subject, template.IPAddresses = pkix.Name{CommonName: "cfssl"}, []net.IP{net.ParseIP(host)}
	der, err := x509.CreateCertificate(rand.Reader, template, s.root.Leaf, csr.PublicKey, s.root.PrivateKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM)
}

func newTemplate() *x509.Certificate {
	const backdate = 5 * time.Minute // as cfssl does
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(Expiry),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// Refuse makes the server answer with an error from now on; an empty one ends that.
func (s *Server) Refuse(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = message
}

// Alter lets a test change the certificates that are made from now on; nil ends that.
func (s *Server) Alter(alter func(*x509.Certificate)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alter = alter
}

// Requests is all that was asked for.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

type signRequest struct {
	Hosts   []string `json:"hosts"`
	Request string   `json:"certificate_request"`
	Subject struct {
		CN    string
		Names []struct{ O, OU string } `json:"names"`
	} `json:"subject"`
	Profile    string `json:"profile"`
	Extensions []struct {
		ID       string `json:"id"`
		Critical bool   `json:"critical"`
		Value    string `json:"value"`
	} `json:"extensions"`
}

// ServeHTTP answers the signing call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	certPEM, err := s.sign(r)
	type message struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	reply := map[string]any{"success": err == nil, "result": nil, "errors": []message{}, "messages": []message{}}
	if err != nil {
		const badRequest = 5100
		reply["errors"] = []message{{badRequest, err.Error()}}
		w.WriteHeader(http.StatusBadRequest)
	} else {
		reply["result"] = map[string]string{"certificate": string(certPEM)}
	}
	_ = json.NewEncoder(w).Encode(reply) // the client sees it if it breaks
}

func (s *Server) sign(r *http.Request) ([]byte, error) {
	var req signRequest
	if r.URL.Path != "/api/v1/cfssl/sign" || r.Method != http.MethodPost {
		return nil, errors.New("no such call")
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(req.Request))
	if block == nil {
		return nil, errors.New("no certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{Client: r.TLS.PeerCertificates[0].Subject.CommonName, Subject: req.Subject.CN, Profile: req.Profile})
	refusal, alter := s.refusal, s.alter
	s.mu.Unlock()
	if refusal != "" {
		return nil, errors.New(refusal)
	}
	template := newTemplate()
	template.Subject, template.DNSNames = pkix.Name{CommonName: req.Subject.CN}, req.Hosts
	for _, name := range req.Subject.Names {
		template.Subject.Organization = append(template.Subject.Organization, name.O)
		template.Subject.OrganizationalUnit = append(template.Subject.OrganizationalUnit, name.OU)
	}
	if err := extend(template, req); err != nil {
		return nil, err
	}
	if alter != nil {
		alter(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.root.Leaf, csr.PublicKey, s.root.PrivateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// extend adds the extensions that were asked for. The profile for CAs has the key usages of one.
func extend(template *x509.Certificate, req signRequest) error {
	if req.Profile == "CA" {
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}
	for _, ext := range req.Extensions {
		value, err := hex.DecodeString(ext.Value)
		if err != nil {
			return err
		}
		var id asn1.ObjectIdentifier
		for part := range strings.SplitSeq(ext.ID, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return err
			}
			id = append(id, n)
		}
		template.BasicConstraintsValid = false
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: id, Critical: ext.Critical, Value: value})
	}
	return nil
}
