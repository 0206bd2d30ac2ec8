package agent

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// api plays a host that speaks HTTP/1 and HTTP/2, and returns its port.
func api(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

const goClient = `package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	time.Sleep(300 * time.Millisecond) // as long as looking a name up takes
	for _, two := range []bool{false, true} {
		t := &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: two,
			Dial: func(string, string) (net.Conn, error) { return net.Dial("tcp", "127.0.0.1:"+os.Args[1]) },
		}
		for _, path := range []string{"/go/first?q=1", "/go/second"} {
			r, err := http.NewRequest("PATCH", "https://api.github.com"+path, nil)
			if err != nil {
				panic(err)
			}
			r.Header.Set("Authorization", "Bearer not-to-be-seen")
			response, err := (&http.Client{Transport: t}).Do(r)
			if err != nil {
				panic(err)
			}
			response.Body.Close()
		}
	}
}
`

// TestRequests: what the heads of requests say, whatever encrypts them, and nothing of
// hosts that nobody asked about.
func TestRequests(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "client.go"), []byte(goClient), 0o644); err != nil {
		t.Fatal(err)
	}
	client := filepath.Join(dir, "client")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", client, filepath.Join(dir, "client.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	port := api(t)
	k := observe(t)
	curl := fmt.Sprintf("curl -sk --resolve api.github.com:%s:127.0.0.1 --resolve other.example.test:%s:127.0.0.1 -H 'Authorization: Bearer not-to-be-seen' ", port, port)
	time.Sleep(200 * time.Millisecond) // the machine's libraries are looked into
	step(t, strings.NewReplacer("CURL", curl, "PORT", port, "CLIENT", client).Replace(`
CURL --http1.1 -X DELETE 'https://api.github.com:PORT/curl/one?secret=x'
CURL --http2 https://api.github.com:PORT/curl/two https://api.github.com:PORT/curl/again
CURL --http1.1 https://other.example.test:PORT/other
CURL --http2 https://other.example.test:PORT/other
python3 -c '
import ssl, http.client, socket
context = ssl._create_unverified_context()
c = http.client.HTTPSConnection("127.0.0.1", PORT, context=context)
c.request("POST", "/python", body="x" * 5000, headers={"Host": "api.github.com"})
c.getresponse().read()
c.request("GET", "/python/ghp_0123456789012345678901234567890123456789", headers={"Host": "api.github.com"})
c.getresponse().read()'
node -e '
const https = require("https")
setTimeout(() => https.get({host: "127.0.0.1", port: PORT, path: "/node?x=1", headers: {host: "api.github.com"}, rejectUnauthorized: false}, r => r.resume()), 300)'
CLIENT PORT
python3 -c '
import ctypes, socket
g = ctypes.CDLL("libgnutls.so.30")
session, credentials = ctypes.c_void_p(), ctypes.c_void_p()
g.gnutls_init(ctypes.byref(session), 2)
g.gnutls_certificate_allocate_credentials(ctypes.byref(credentials))
g.gnutls_credentials_set(session, 1, credentials)
g.gnutls_set_default_priority(session)
s = socket.create_connection(("127.0.0.1", PORT))
g.gnutls_transport_set_int2(session, s.fileno(), s.fileno())
code = g.gnutls_handshake(session)
assert code == 0, code
head = b"HEAD /gnutls HTTP/1.1\r\nHost: github.com\r\n\r\n"
assert g.gnutls_record_send(session, head, len(head)) == len(head)
'
`))
	wanted := []string{
		"DELETE /curl/one 1.1 openssl", "GET /curl/two 2 openssl", "GET /curl/again 2 openssl", "POST /python 1.1 openssl",
		"GET /python/" + Redacted + " 1.1 openssl", "GET /node 1.1 node", "HEAD /gnutls 1.1 gnutls",
		"PATCH /go/first 1.1 go", "PATCH /go/second 1.1 go", "PATCH /go/first 2 go", "PATCH /go/second 2 go",
	}
	told := func() map[string]int {
		got := map[string]int{}
		for _, e := range k.events(t) {
			q := e.GetHttpRequest()
			if q == nil || e.at.GetRepository() != "acme/step" {
				continue
			}
			if q.GetHost() != "api.github.com" && q.GetHost() != "github.com" {
				t.Fatalf("a request to %s", q.GetHost())
			}
			library := strings.ToLower(strings.TrimPrefix(q.GetLibrary().String(), "TLS_LIBRARY_"))
			got[fmt.Sprintf("%s %s %s %s", q.GetMethod(), q.GetPath(), q.GetVersion(), library)]++
		}
		return got
	}
	missing := func() (m []string) {
		got := told()
		for _, w := range wanted {
			if got[w] != 1 {
				m = append(m, fmt.Sprintf("%s (%d times)", w, got[w]))
			}
		}
		return m
	}
	for deadline := time.Now().Add(5 * time.Second); len(missing()) > 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
	}
	if m := missing(); len(m) > 0 {
		t.Errorf("not told: %q\ntold: %v", m, told())
	}
	if n := len(told()); n != len(wanted) {
		t.Errorf("%d requests were told, want %d: %v", n, len(wanted), told())
	}
	for _, e := range k.events(t) {
		if strings.Contains(e.String(), "not-to-be-seen") && e.GetProcessExecuted() == nil {
			t.Errorf("a credential is told: %v", e)
		}
	}
}
