package runson

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclparse"
	"go.yaml.in/yaml/v3"
)

// TestPacker: the template is HCL, and its blocks are those that Packer knows.
func TestPacker(t *testing.T) {
	file, diagnostics := hclparse.NewParser().ParseHCLFile("agent.pkr.hcl")
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	if _, err := file.Body.JustAttributes(); !err.HasErrors() {
		t.Error("there are no blocks in it")
	}
	data, err := os.ReadFile("agent.pkr.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`script           = "install.sh"`, "SALLYPORT_SHA256=${var.agent_sha256}"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%q is not in it", want)
		}
	}
}

func TestUserData(t *testing.T) {
	data, err := os.ReadFile("user-data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(data), "#cloud-config\n") {
		t.Error("the first line must be #cloud-config")
	}
	var config struct {
		WriteFiles []struct {
			Path, Permissions, Owner, Content string
		} `yaml:"write_files"`
		Runcmd [][]string
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	if len(config.WriteFiles) != 1 || config.WriteFiles[0].Path != "/etc/sallyport/agent.env" || config.WriteFiles[0].Permissions != "0600" {
		t.Errorf("files %+v", config.WriteFiles)
	}
	if strings.Contains(string(data), "agent:") {
		t.Error("user-data can be read by jobs: no password in it")
	}
	for _, c := range config.Runcmd {
		if c[0] == "sh" {
			shell(t, c[2])
		}
	}
}

func TestRunsOnConfiguration(t *testing.T) {
	data, err := os.ReadFile("runs-on.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Images map[string]struct {
			Platform, Arch, Name, Owner, Preinstall string
		}
		Runners map[string]struct {
			Image string
			CPU   []int
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	image, ok := config.Images[config.Runners["observed"].Image]
	if !ok || image.Owner == "" {
		t.Errorf("images %+v", config.Images)
	}
	shell(t, image.Preinstall)
}

func TestScript(t *testing.T) {
	data, err := os.ReadFile("install.sh")
	if err != nil {
		t.Fatal(err)
	}
	shell(t, string(data)) // cmd/sallyport-agent runs it: TestImageScript
}

// shell checks that a script can be parsed.
func shell(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil || script == "" {
		t.Errorf("%v\n%s\n%s", err, out, script)
	}
}
