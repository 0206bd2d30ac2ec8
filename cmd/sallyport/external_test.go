package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

// One process may use engines that are there already; it starts none of its own.
func TestUpWithExternalEngines(t *testing.T) {
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	port := freePorts(t, 1)[0]
	nats := child(t, "nats-server", nil, "-js", "-a", "127.0.0.1", "-p", fmt.Sprint(port), "-sd", t.TempDir())
	if _, err := nats.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := nats.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nats.Process.Kill()
		_ = nats.Wait()
	})
	data := t.TempDir()
	up := child(t, "sallyport", []string{"SALLYPORT_CLICKHOUSE_DSN=" + e.DatabaseDSN(name)},
		"up", "--data", data, "--agent", "off", "--nats-url", fmt.Sprintf("nats://127.0.0.1:%d", port),
		"--rest", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--dead-letter-age", "24h")
	var out strings.Builder
	up.Stdout, up.Stderr = &out, &out
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			_ = up.Process.Kill()
			_ = up.Wait()
			t.Log(out.String())
		}
	})
	eventually(t, time.Minute, func() error {
		a, err := readAddresses(data)
		if err != nil {
			return err
		}
		for _, address := range []string{a.Metrics + "/readyz", a.REST + "/healthz"} {
			answer, err := http.Get("http://" + address)
			if err != nil {
				return err
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: %s", address, answer.Status)
			}
		}
		return nil
	})
	for _, engine := range []string{"/nats", "/clickhouse", "/agent.env"} {
		if _, err := os.Stat(data + engine); err == nil {
			t.Errorf("%s was made, though the engines are elsewhere", data+engine)
		}
	}
	if err := up.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	stopped = true
	if err := up.Wait(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if !strings.Contains(out.String(), "NATS        nats://127.0.0.1") || strings.Contains(out.String(), "level=ERROR") {
		t.Errorf("sallyport up says\n%s", out.String())
	}
}
