package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	externalTimeout = 3 * time.Second // for one URL: nodes wait ten seconds for a certificate
	maxReplySize    = 64 << 10        // bytes of a reply that has a certificate
)

// signRequest and the types below it are cfssl's.
type signRequest struct {
	Hosts      []string        `json:"hosts"`
	Request    string          `json:"certificate_request"`
	Subject    *signSubject    `json:"subject,omitempty"`
	Profile    string          `json:"profile"`
	Extensions []signExtension `json:"extensions,omitempty"`
}

type signSubject struct {
	CN    string
	Names []signName `json:"names"`
}

type signName struct {
	O  string `json:",omitempty"`
	OU string `json:",omitempty"`
}

type signExtension struct {
	ID       string `json:"id"`
	Critical bool   `json:"critical"`
	Value    string `json:"value"` // hexadecimal
}

type signReply struct {
	Success bool `json:"success"`
	Result  struct {
		Certificate string `json:"certificate"`
	} `json:"result"`
	Errors []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
}

// ask posts a request to one URL after the other until the check accepts what comes back. The error joins those of all URLs.
func (e *External) ask(ctx context.Context, req signRequest, check func(certPEM []byte) error) ([]byte, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: e.TLS, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: externalTimeout}
	defer transport.CloseIdleConnections()
	var failures []error
	for _, at := range e.URLs {
		cert, err := post(ctx, client, at, body)
		if err == nil {
			err = check(cert)
		}
		if err == nil {
			return cert, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", at, err))
	}
	if len(failures) == 0 {
		return nil, ErrNoExternalURLs
	}
	return nil, errors.Join(failures...)
}

// ErrNoExternalURLs says, in Docker's words, that there is nobody to ask.
var ErrNoExternalURLs = errors.New("no external CA URLs")

// post sends one request and returns the certificate that comes back.
func post(ctx context.Context, client *http.Client, at string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("unable to perform certificate signing request: %w", errors.Unwrap(err)) // without method and URL
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReplySize))
	if err != nil {
		return nil, fmt.Errorf("unable to read CSR response body: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("unexpected status code in CSR response: %d - %s", resp.StatusCode, bytes.TrimSpace(text))
	}
	var reply signReply
	if err := json.Unmarshal(text, &reply); err != nil {
		return nil, fmt.Errorf("unable to parse JSON response: %w", err)
	}
	if !reply.Success || reply.Result.Certificate == "" {
		if len(reply.Errors) > 0 {
			return nil, fmt.Errorf("response errors: %v", reply.Errors)
		}
		return nil, errors.New("certificate signing request failed")
	}
	return []byte(reply.Result.Certificate), nil
}
