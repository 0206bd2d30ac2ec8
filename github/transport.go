package github

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport/wholefile"
)

// pace keeps a pause between writes, which GitHub asks for beside its limits.
type pace struct {
	next  http.RoundTripper
	pause time.Duration

	mu   sync.Mutex
	last time.Time
}

// RoundTrip implements http.RoundTripper.
func (p *pace) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return p.next.RoundTrip(r)
	}
	p.mu.Lock()
	defer p.mu.Unlock() // one write at a time, too
	if wait := p.pause - time.Since(p.last); wait > 0 {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	defer func() { p.last = time.Now() }()
	return p.next.RoundTrip(r)
}

// again asks again what changes nothing, if GitHub did not answer or had trouble of its own.
type again struct{ next http.RoundTripper }

// tries of a request that changes nothing.
const tries = 4

// RoundTrip implements http.RoundTripper.
func (a *again) RoundTrip(r *http.Request) (*http.Response, error) {
	for n := 1; ; n++ {
		resp, err := a.next.RoundTrip(r)
		if r.Method != http.MethodGet || n == tries || r.Context().Err() != nil || err == nil && resp.StatusCode < 500 {
			return resp, err
		}
		if err == nil {
			_ = resp.Body.Close() // its text says nothing that the status does not
		}
		wait := time.Duration(n*n) * 200 * time.Millisecond
		if err == nil {
			if s, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && s < 120 {
				wait = time.Duration(s) * time.Second
			}
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

// conditional keeps answers with their tags, and asks whether they still hold. One that cannot be
// kept or read is asked for in full.
type conditional struct {
	next   http.RoundTripper
	folder string
	who    string
}

// maxKept is the largest answer that is kept, in bytes.
const maxKept = 8 << 20

// who tells identities apart without keeping their secrets: others may see other things.
func (c *Client) who() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", c.config.Token, c.config.AppID, c.login))
	return hex.EncodeToString(sum[:])
}

// RoundTrip implements http.RoundTripper.
func (c *conditional) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		return c.next.RoundTrip(r)
	}
	sum := sha256.Sum256([]byte(c.who + "\x00" + r.URL.String() + "\x00" + r.Header.Get("Accept")))
	name := filepath.Join(c.folder, hex.EncodeToString(sum[:]))
	kept := c.read(name, r)
	if kept != nil {
		r = r.Clone(r.Context())
		r.Header.Set("If-None-Match", kept.Header.Get("Etag"))
	}
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if kept != nil && resp.StatusCode == http.StatusNotModified {
		_ = resp.Body.Close() // it has none
		return kept, nil
	}
	if resp.StatusCode == http.StatusOK && resp.Header.Get("Etag") != "" && resp.ContentLength < maxKept {
		c.keep(name, resp)
	}
	return resp, nil
}

func (c *conditional) read(name string, r *http.Request) *http.Response {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), r)
	if err != nil || resp.Header.Get("Etag") == "" {
		return nil
	}
	return resp
}

// keep writes an answer for the next time; whole or not at all.
func (c *conditional) keep(name string, resp *http.Response) {
	data, err := httputil.DumpResponse(resp, true) // and gives the body back
	if err != nil || len(data) > maxKept || os.MkdirAll(c.folder, 0o700) != nil {
		return
	}
	_ = wholefile.Write(name, 0o600, data) // else the next question is asked in full
}
