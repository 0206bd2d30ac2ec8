package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// An agent whose NATS is away lives, and is not ready; then it is.
func TestReadyWhenNATSIsThere(t *testing.T) {
	if os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
		if err := check(); err != nil {
			t.Skip("skipped: " + err.Error())
		}
	}
	dir := t.TempDir()
	var ports []int
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	metrics := "127.0.0.1:" + strconv.Itoa(ports[1])
	out := &output{}
	cmd := exec.Command("sallyport-agent", "--state", filepath.Join(dir, "state"), "--socket", filepath.Join(dir, "agent.sock"), "--metrics", metrics)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SALLYPORT_NATS=nats://agent:secret@127.0.0.1:%d", ports[0]))
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	await := func(path string, code int, words string) {
		t.Helper()
		var last string
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			answer, err := http.Get("http://" + metrics + path)
			if err != nil {
				last = err.Error()
				continue
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err == nil && answer.StatusCode == code && strings.Contains(string(body), words) {
				return
			}
			last = fmt.Sprint(answer.StatusCode, " ", string(body))
		}
		t.Fatalf("%s says %s, want %d %s\n%s", path, last, code, words, out)
	}
	await("/healthz", http.StatusOK, "ok")
	await("/readyz", http.StatusServiceUnavailable, "nats: not connected")
	server, err := natsserver.Start(natsserver.Config{Dir: filepath.Join(dir, "nats"), Port: ports[0], AgentPassword: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	await("/readyz", http.StatusOK, "nats: ok")
	await("/metrics", http.StatusOK, "sallyport_agent_spool_bytes")
}
