package doctor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/bpf"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

var update = flag.Bool("update", false, "write the golden files again")

func TestMain(m *testing.M) { enginetest.Main(m) }

// expect checks state and text of one check, and that what is wrong comes with advice.
func expect(t *testing.T, r Results, check string, state State, found string) {
	t.Helper()
	for _, one := range r {
		if one.State == Fail && one.Advice == "" {
			t.Errorf("%s fails without advice: %s", one.Check, one.Found)
		}
	}
	for _, one := range r {
		if one.Check == check {
			if one.State != state || !strings.Contains(one.Found, found) {
				t.Errorf("%s: %s %q, want %s and %q", check, one.State, one.Found, state, found)
			}
			return
		}
	}
	t.Errorf("%s was not checked: %+v", check, r)
}

// machine is one on which all is well, in a folder of its own.
func machine(t *testing.T) Machine {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"sys/kernel/btf/vmlinux":       "",
		"sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
		"proc/self/mountinfo":          "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return Machine{
		Root: root, Release: "6.18.1-generic", EffectiveUID: func() int { return 0 },
		Sensor:       func() ([]string, error) { return nil, nil },
		Synchronised: func() (bool, error) { return true, nil },
	}
}

func TestMachine(t *testing.T) {
	well := CheckMachine(t.Context(), machine(t))
	for _, one := range well {
		if one.State != OK {
			t.Errorf("%+v", one)
		}
	}
	remove := func(path string) func(*Machine) {
		return func(m *Machine) {
			if err := os.Remove(filepath.Join(m.Root, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*Machine)
		check  string
		state  State
		found  string
	}{
		"old kernel":  {func(m *Machine) { m.Release = "5.15.0-91" }, "kernel", Fail, "5.15"},
		"Debian":      {func(m *Machine) { m.Release = "6.1.0-18-amd64" }, "kernel", OK, "from 6.12 on"},
		"odd kernel":  {func(m *Machine) { m.Release = "custom" }, "kernel", Warn, "custom"},
		"no types":    {remove("sys/kernel/btf/vmlinux"), "kernel-types", Fail, "not there"},
		"no lockdown": {remove("sys/kernel/security/lockdown"), "lockdown", OK, "none"},
		"no proc":     {remove("proc/self/mountinfo"), "cgroup2", Fail, "cannot be read"},
		"no cgroup2": {func(m *Machine) {
			writeFile(t, m.Root+"/proc/self/mountinfo", "1 2 0:3 / / rw - ext4 /dev/vda rw\nodd\n")
		}, "cgroup2", Warn, "not mounted"},
		"lockdown": {func(m *Machine) {
			writeFile(t, m.Root+"/sys/kernel/security/lockdown", "none integrity [confidentiality]")
		}, "lockdown", Fail, "confidentiality"},
		"not root": {func(m *Machine) { m.EffectiveUID = func() int { return 1000 } }, "privilege", Warn, "not root"},
		"refused": {func(m *Machine) {
			m.Sensor = func() ([]string, error) { return nil, &bpf.UnsupportedError{Missing: "luck"} }
		}, "ebpf", Fail, "luck"},
		"failed":       {func(m *Machine) { m.Sensor = func() ([]string, error) { return nil, errors.New("odd") } }, "ebpf", Fail, "odd"},
		"lacks":        {func(m *Machine) { m.Sensor = func() ([]string, error) { return []string{"modules"}, nil } }, "ebpf", OK, "modules"},
		"no NTP":       {func(m *Machine) { m.Synchronised = func() (bool, error) { return false, nil } }, "clock", Warn, "nothing keeps it right"},
		"unknown NTP":  {func(m *Machine) { m.Synchronised = func() (bool, error) { return false, errors.New("odd") } }, "clock", Warn, "not known"},
		"long ago":     {func(m *Machine) { m.Clock = func() time.Time { return time.Unix(0, 0) } }, "clock", Fail, "1970"},
		"being set":    {func(m *Machine) { m.Clock = setClock() }, "clock", Warn, "setting it"},
		"this machine": {func(m *Machine) { *m = Machine{Sensor: m.Sensor} }, "kernel", OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t)
			c.change(&m)
			expect(t, CheckMachine(t.Context(), m), c.check, c.state, c.found)
		})
	}
}

// setClock returns a clock that goes back an hour when it is asked the second time.
func setClock() func() time.Time {
	asked := 0
	return func() time.Time {
		asked++
		return time.Now().Add(-time.Duration(asked/2) * time.Hour)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestData(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := CheckData(dir)
	expect(t, r, "data", OK, dir)
	if len(r) != 2 || r[1].Check != "disk" || !strings.Contains(r[1].Found, "free") {
		t.Errorf("%+v", r)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	expect(t, CheckData(dir), "data", Warn, "others may look")
	expect(t, CheckData(filepath.Join(dir, "none")), "data", Warn, "does not exist")
	writeFile(t, filepath.Join(dir, "file"), "")
	expect(t, CheckData(filepath.Join(dir, "file")), "data", Fail, "is no folder")
	expect(t, CheckData("/proc/self"), "disk", Fail, "0 B free")
}

func TestEngine(t *testing.T) {
	expect(t, CheckEngine("/nowhere/libchdb.so"), "engine", Fail, "nowhere")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	expect(t, CheckEngine(""), "engine", Warn, "not in the cache")
}

func newStreams(t *testing.T) jetstream.JetStream {
	t.Helper()
	_, js := natstest.Start(t, natsserver.Config{})
	return js
}

func later(d time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(d) }
}

func TestStreams(t *testing.T) {
	js := newStreams(t)
	expect(t, CheckStreams(t.Context(), js, time.Now), "stream-events", Fail, "not found")
	if err := stream.Declare(t.Context(), js, stream.Limits{EventsBytes: 10_000}); err != nil {
		t.Fatal(err)
	}
	r := CheckStreams(t.Context(), js, time.Now)
	expect(t, r, "nats", OK, "version")
	expect(t, r, "nats-clock", OK, "NATS's clock is")
	expect(t, r, "stream-events", OK, "0 messages")
	expect(t, r, "stream-findings", OK, "0 messages")
	expect(t, r, "stream-deadletters", OK, "none")

	expect(t, CheckStreams(t.Context(), js, later(20*time.Second)), "nats-clock", Warn, "from ours")
	expect(t, CheckStreams(t.Context(), js, later(-time.Hour)), "nats-clock", Fail, "from ours")

	publish := func(subject string, size int) {
		t.Helper()
		if _, err := js.Publish(t.Context(), subject, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	publish(stream.EventSubject("a"), 100)
	publish(stream.DeadLetterSubject("ingest"), 1)
	r = CheckStreams(t.Context(), js, time.Now)
	expect(t, r, "stream-events", OK, "detector lacks 1, ingest lacks 1")
	expect(t, r, "stream-deadletters", Warn, "1 messages")
	// Nobody reads for a time.
	expect(t, CheckStreams(t.Context(), js, later(2*time.Minute)), "stream-events", Warn, "the oldest is 2m")
	expect(t, CheckStreams(t.Context(), js, later(11*time.Minute)), "stream-events", Fail, "the oldest is 11m")
	publish(stream.EventSubject("a"), 8100)
	expect(t, CheckStreams(t.Context(), js, time.Now), "stream-events", Warn, "8.")
	publish(stream.EventSubject("a"), 1300)
	expect(t, CheckStreams(t.Context(), js, time.Now), "stream-events", Fail, "it is full")
	if err := js.DeleteConsumer(t.Context(), stream.EventsStream, stream.IngestConsumer); err != nil {
		t.Fatal(err)
	}
	expect(t, CheckStreams(t.Context(), js, time.Now), "stream-events", Fail, "nobody reads it as ingest")
	js.Conn().Close()
	expect(t, CheckStreams(t.Context(), js, time.Now), "nats", Fail, "does not answer")
}

func TestTables(t *testing.T) {
	e := enginetest.Start(t)
	name, conn := e.Database(t)
	s, err := store.Open(t.Context(), e.DatabaseDSN(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	expect(t, CheckTables(t.Context(), s, "v1", time.Now), "tables", Fail, "none")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := CheckTables(t.Context(), s, "v1", time.Now)
	expect(t, r, "clickhouse", OK, "version 2")
	expect(t, r, "clickhouse-clock", OK, "ClickHouse's clock is")
	expect(t, r, "tables", OK, "version ")
	expect(t, r, "agents", Warn, "none was heard of")
	expect(t, CheckTables(t.Context(), s, "v1", later(time.Hour)), "clickhouse-clock", Fail, "from ours")

	exec := func(sql string) {
		t.Helper()
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("INSERT INTO agent_status (agent_id, epoch, sequence, time, version) VALUES ('a', 1, 1, now() - 60, 'v0'), ('a', 1, 2, now(), 'v1'), ('b', 1, 1, now(), 'v1')")
	expect(t, CheckTables(t.Context(), s, "v1", time.Now), "agents", OK, "2 of version v1")
	exec("INSERT INTO agent_status (agent_id, epoch, sequence, time, version) VALUES ('c', 1, 1, now(), 'v0')")
	expect(t, CheckTables(t.Context(), s, "v1", time.Now), "agents", Warn, "1 of version v0, 2 of version v1; this is v1")

	exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)")
	expect(t, CheckTables(t.Context(), s, "v1", time.Now), "tables", Warn, "99999")
	exec("TRUNCATE TABLE goose_db_version")
	exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (1, 1)")
	expect(t, CheckTables(t.Context(), s, "v1", time.Now), "tables", Fail, "version 1 of")

	away, err := store.Open(t.Context(), "http://sallyport:hush@127.0.0.1:1/sallyport")
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	r = CheckTables(t.Context(), away, "v1", time.Now)
	expect(t, r, "clickhouse", Fail, "127.0.0.1:1")
	if strings.Contains(fmt.Sprint(r), "hush") {
		t.Errorf("the password is told: %v", r)
	}
}

// TestText holds what people see to a golden file; -update writes it again.
func TestText(t *testing.T) {
	m := machine(t)
	m.Synchronised = func() (bool, error) { return false, nil }
	m.Release = "5.15.0-91"
	r := append(CheckMachine(context.Background(), m), NotRunning("/var/lib/sallyport")...)
	r = append(r, NotAllowed("/var/lib/sallyport")...)
	r = append(r, Unreachable("nats", errors.New("connection refused"), "restart sallyport up")...)
	if !r.Failed() || (Results{{State: Warn}}).Failed() {
		t.Error("Failed is wrong")
	}
	var text, json strings.Builder
	if err := errors.Join(r.WriteText(&text, strings.ToUpper), r.WriteJSON(&json)); err != nil {
		t.Fatal(err)
	}
	golden(t, "doctor.txt", text.String())
	golden(t, "doctor.json", json.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it again):\n%s\nwant\n%s", path, got, want)
	}
}
