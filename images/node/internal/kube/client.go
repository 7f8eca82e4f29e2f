package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Client talks to an API server. It knows no types: objects are JSON.
type Client struct {
	server string
	token  string
	http   *http.Client
}

// StatusError is an answer of the API server that is not a success.
type StatusError struct {
	Method, Path string
	Code         int
	Message      string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: HTTP %d: %s", e.Method, e.Path, e.Code, e.Message)
}

// IsStatus tells whether an error is an answer with the given HTTP status.
func IsStatus(err error, code int) bool {
	var status *StatusError

	return errors.As(err, &status) && status.Code == code
}

// NewTokenClient authenticates with a bearer token.
func NewTokenClient(server string, ca []byte, token string) *Client {
	c := newClient(server, ca, nil)
	c.token = token

	return c
}

// NewCertClient authenticates with a client certificate from two files (which may be the same), read again for each
// connection because the kubelet rotates its own.
func NewCertClient(server string, ca []byte, certFile, keyFile string) *Client {
	return newClient(server, ca, func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if os.IsNotExist(err) {
			return &tls.Certificate{}, nil // anonymous: the server's refusal tells more than a broken handshake
		}

		return &pair, err
	})
}

func newClient(server string, ca []byte, cert func(*tls.CertificateRequestInfo) (*tls.Certificate, error)) *Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)

	return &Client{server: strings.TrimRight(server, "/"), http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{
			RootCAs: pool, GetClientCertificate: cert, MinVersion: tls.VersionTLS12,
			CurvePreferences: []tls.CurveID{tls.X25519}, // no post-quantum hybrid: see ComponentEnv
		},
		TLSHandshakeTimeout: 30 * time.Second,
		MaxIdleConnsPerHost: 2,
	}}}
}

// Do sends one request and decodes the answer into out when that is not nil.
func (c *Client) Do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	response, err := c.send(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()

	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}

	if response.StatusCode >= 300 {
		return statusError(method, path, response.StatusCode, content)
	}

	if out == nil {
		return nil
	}

	return json.Unmarshal(content, out)
}

// Get reads an object.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Do(ctx, http.MethodGet, path, "", nil, out)
}

// Ready asks for /readyz.
func (c *Client) Ready(ctx context.Context) error {
	return c.Do(ctx, http.MethodGet, "/readyz", "", nil, nil)
}

// ReadyProblem shortens the refusal of /readyz to the checks that fail.
func ReadyProblem(err error) string {
	var status *StatusError
	if !errors.As(err, &status) {
		return err.Error()
	}

	var failing []string

	for line := range strings.SplitSeq(status.Message, "\n") {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ := strings.Cut(check, " ")
			failing = append(failing, name)
		}
	}

	if len(failing) == 0 {
		return fmt.Sprintf("HTTP %d", status.Code)
	}

	return "waiting for " + strings.Join(failing, ", ")
}

func (c *Client) send(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}

	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}

	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "reference-node")

	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}

	return c.http.Do(request)
}

func statusError(method, path string, code int, content []byte) error {
	var status struct {
		Message string `json:"message"`
	}

	if json.Unmarshal(content, &status) != nil || status.Message == "" {
		status.Message = strings.TrimSpace(string(content))
	}

	if len(status.Message) > 4000 {
		status.Message = status.Message[:4000] + "…"
	}

	return &StatusError{Method: method, Path: path, Code: code, Message: status.Message}
}

// WatchEvent is one event of a watch.
type WatchEvent struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// Watch streams the events of a collection until the context ends, the server closes the stream, or each fails.
func (c *Client) Watch(ctx context.Context, path string, each func(WatchEvent) error) error {
	response, err := c.send(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()

	if response.StatusCode >= 300 {
		content, _ := io.ReadAll(io.LimitReader(response.Body, 4096))

		return statusError("WATCH", path, response.StatusCode, content)
	}

	decoder := json.NewDecoder(response.Body)

	for {
		var event WatchEvent
		if err := decoder.Decode(&event); err != nil {
			return fmt.Errorf("watch %s ended: %w", path, err)
		}

		if event.Type == "ERROR" {
			return fmt.Errorf("watch %s: %s", path, event.Object)
		}

		if err := each(event); err != nil {
			return err
		}
	}
}
