package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits: systemd understands each unit, and every setting in it.
func TestUnits(t *testing.T) {
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("SALLYPORT_REQUIRE_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip("skipped: " + err.Error())
	}
	units, err := filepath.Glob("*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("units %q, %v", units, err)
	}
	root := t.TempDir()
	// The programs that they start are not installed here.
	for _, name := range []string{"sallyport", "sallyport-agent"} {
		program := filepath.Join(root, "usr/local/bin", name)
		if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range units {
		data, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.ReplaceAll(data, []byte("=/usr/local/bin/"), []byte("="+root+"/usr/local/bin/"))
		file := filepath.Join(root, strings.Replace(unit, "@", "@ingest", 1))
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "verify", "--man=no", file)
		out, err := cmd.CombinedOutput()
		// It also looks at units of the machine that these stand on.
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, filepath.Base(file)) || strings.Contains(line, root) {
				t.Errorf("%s: %s", unit, line)
			}
		}
		if err != nil && !t.Failed() {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// TestAgentIsConfined: the agent's unit is no more open than docs/self-hosted.md says.
func TestAgentIsConfined(t *testing.T) {
	for _, want := range []string{"NoNewPrivileges=yes", "ProtectSystem=strict", "RestrictNamespaces=yes", "SystemCallFilter=", "CapabilityBoundingSet="} {
		if !bytes.Contains(Agent, []byte("\n"+want)) {
			t.Errorf("%s is not there", want)
		}
	}
	out, err := exec.Command("systemd-"+"analyze", "security", "--offline=true", "--threshold=50", "sallyport-agent.service").CombinedOutput()
	if err != nil {
		if _, missing := exec.LookPath("systemd-analyze"); missing != nil && os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
			t.Skip("skipped: " + missing.Error())
		}
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
