package credential

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// callTimeout bounds a question to the server or to GitHub.
	callTimeout = 15 * time.Second
	// maxAnswer bounds an answer in bytes.
	maxAnswer = 1 << 20
	// maxSaid bounds what is repeated of an error's text.
	maxSaid = 500
)

// RejectedError says that the server, or GitHub, said no.
type RejectedError struct {
	// Status is the HTTP status.
	Status int
	// Said is what was said, fit for a log.
	Said string
}

func (e *RejectedError) Error() string { return fmt.Sprintf("%d: %s", e.Status, e.Said) }

// API speaks with the server's REST API. It is safe for concurrent use.
type API struct {
	// URL is the server's address in the one form that both ends know it by.
	URL    string
	client *http.Client
}

// ServerURL returns the address of a server in the one form that names it, in tokens, too:
// scheme, host and port. It has to be https unless it is of this machine.
func ServerURL(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", errors.New("the address of the server is not of the form https://HOST or https://HOST:PORT")
	}
	if err := confidential(u); err != nil {
		return "", err
	}
	return strings.ToLower(u.Scheme + "://" + u.Host), nil
}

// confidential returns an error unless an address is by TLS, or of this machine.
func confidential(u *url.URL) error {
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s://%s would carry tokens for everybody to read: it has to be https", u.Scheme, u.Host)
}

// NewAPI returns a client of the server at an address. ca is a file with the certificates
// that the server's is checked against; those of the machine if empty.
func NewAPI(address, ca string) (*API, error) {
	server, err := ServerURL(address)
	if err != nil {
		return nil, err
	}
	client, err := newClient(ca)
	if err != nil {
		return nil, err
	}
	return &API{URL: server, client: client}, nil
}

func newClient(ca string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read the certificates for the server: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read the certificates for the server: there is none in %s", ca)
		}
	}
	return &http.Client{
		Timeout:   callTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		// What is asked for holds secrets, which are for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// call posts a question and reads the answer.
func (a *API) call(ctx context.Context, path string, question, answer proto.Message) error {
	body, err := protojson.Marshal(question)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", a.URL, err)
	}
	request.Header.Set("Content-Type", "application/json")
	data, err := do(a.client, request)
	if err != nil {
		return fmt.Errorf("ask %s%s: %w", a.URL, path, err)
	}
	// The server may be newer.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, answer); err != nil {
		return fmt.Errorf("ask %s%s: the answer is none of Sallyport's", a.URL, path)
	}
	return nil
}

// do asks, and returns the body of an answer that is 200.
func do(client *http.Client, request *http.Request) ([]byte, error) {
	answer, err := client.Do(request)
	if err != nil {
		var wrapped *url.Error // repeats the address, which may hold what is secret
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, &RejectedError{Status: answer.StatusCode, Said: said(data)}
	}
	return data, nil
}

// Enrol enrols this machine for a key.
func (a *API) Enrol(ctx context.Context, key, name, nkey string) (*sallyportv1.Credential, error) {
	answer := new(sallyportv1.EnrolAgentResponse)
	err := a.call(ctx, "/v1/identity:enrol", &sallyportv1.EnrolAgentRequest{Key: key, Name: name, Nkey: nkey}, answer)
	return answer.GetCredential(), err
}
