package helm

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// tool returns the path of a tool that the Makefile builds.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../.bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SALLYPORT_REQUIRE_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip("skipped: make .bin/" + name)
	}
	return path
}

const chart = "sallyport-agent"

// kubernetes are the versions whose published schemas the objects are held to. The tool
// has them in it.
var kubernetes = []string{"1.27", "1.30"}

func render(t *testing.T, values string) (string, error) {
	t.Helper()
	cmd := exec.Command(tool(t, "helm"), "template", "sallyport", chart, "--namespace", "sallyport-system", "--kube-version", "1.30.0", "--values", "-")
	cmd.Stdin = strings.NewReader(values)
	// It looks at nothing of the user's.
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir(), "KUBECONFIG=/dev/null")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const (
	image  = "image: {repository: images.example.test/sallyport-agent}\n"
	digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestCharts(t *testing.T) {
	for _, c := range []struct{ name, values, want, never string }{
		{
			"address with password in a secret", image + "nats: {secret: {name: agent, urlKey: SALLYPORT_NATS}}\n",
			`valueFrom: {secretKeyRef: {name: "agent", key: "SALLYPORT_NATS"}}`, "user.creds",
		},
		{
			"credentials, own certificates, digest",
			"image: {repository: images.example.test/agent, digest: \"" + digest + "\", pullSecrets: [{name: pull}]}\n" +
				"nats: {url: \"tls://nats.example.test:4222\", secret: {name: agent, credsKey: creds}, caConfigMap: ca}\n",
			"images.example.test/agent@" + digest, "NetworkPolicy",
		},
		{
			"network policy, settings, another priority",
			image + "nats: {url: \"nats://nats.nats.svc:4222\"}\nsettings: {SALLYPORT_LOG_LEVEL: debug, SALLYPORT_SPOOL_BYTES: \"1000000\"}\n" +
				"networkPolicy: {enabled: true, natsPeers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: nats}}}], metricsPeers: [{podSelector: {}}]}\n" +
				"priorityClassName: \"\"\npodAnnotations: {a: b}\npodLabels: {team: ci}\nserviceAccount: {annotations: {c: d}}\n",
			"kind: NetworkPolicy", "secretKeyRef",
		},
		{
			"runner nodes only", image + "nats: {url: \"nats://n:4222\"}\nnodeSelector: {pool: runners}\ntolerations: [{key: ci, operator: Exists, effect: NoSchedule}]\nworkers: [Runner.Worker, act]\n",
			`value: "Runner.Worker,act"`, "NetworkPolicy",
		},
		{
			"values that look like something else", image + "nats: {url: \"nats://n:4222\"}\nsettings: {SALLYPORT_AGENT_ID: \"0123\", SALLYPORT_JSON_: \"{{ x }}: [\"}\n",
			`value: "0123"`, "NetworkPolicy",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := render(t, c.values)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(out, c.want) || strings.Contains(out, c.never) {
				t.Errorf("%q should be in it, %q not:\n%s", c.want, c.never, out)
			}
			file := filepath.Join(t.TempDir(), "objects.yaml")
			if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, version := range kubernetes {
				if said, err := exec.Command(tool(t, "kubectl-validate"), "--version", version, file).CombinedOutput(); err != nil {
					t.Errorf("Kubernetes %s: %v\n%s", version, err, said)
				}
			}
			atNode(t, out)
		})
	}
}

// atNode checks what the agent needs to see a node at all, and what it must not have.
func atNode(t *testing.T, out string) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(out))
	var kinds []string
	for {
		var object struct {
			Kind string
			Spec struct {
				Template struct {
					Spec struct {
						HostPID                      bool  `yaml:"hostPID"`
						HostNetwork                  bool  `yaml:"hostNetwork"`
						AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
						Containers                   []struct {
							Args            []string
							SecurityContext struct {
								Privileged             bool
								ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
							} `yaml:"securityContext"`
						}
					}
				}
			}
		}
		if decoder.Decode(&object) != nil {
			break
		}
		kinds = append(kinds, object.Kind)
		if object.Kind != "DaemonSet" {
			continue
		}
		pod := object.Spec.Template.Spec
		token := pod.AutomountServiceAccountToken
		if !pod.HostPID || pod.HostNetwork || token == nil || *token || len(pod.Containers) != 1 ||
			!pod.Containers[0].SecurityContext.Privileged || !pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("pod %+v", pod)
		}
	}
	if !slices.Contains(kinds, "DaemonSet") || !slices.Contains(kinds, "ServiceAccount") || slices.Contains(kinds, "ClusterRole") {
		t.Errorf("objects %q", kinds)
	}
}

// TestWrongValues: what cannot work is said when the chart is rendered.
func TestWrongValues(t *testing.T) {
	for _, c := range []struct{ name, values, says string }{
		{"no image", "nats: {url: \"nats://n:4222\"}\n", "repository"},
		{"no address", image, "where does the agent send to?"},
		{"two addresses", image + "nats: {url: \"nats://n:4222\", secret: {name: a, urlKey: b}}\n", "give one"},
		{"a password among the values", image + "nats: {url: \"nats://agent:swordfish@n:4222\"}\n", "url"},
		{"a key of no secret", image + "nats: {url: \"nats://n:4222\", secret: {credsKey: b}}\n", "nats.secret.name"},
		{"a misspelt value", image + "nats: {url: \"nats://n:4222\"}\ntoleration: []\n", "toleration"},
		{"a setting that is none", image + "nats: {url: \"nats://n:4222\"}\nsettings: {PATH: /x}\n", "PATH"},
		{"a digest that is none", "image: {repository: a, digest: latest}\nnats: {url: \"nats://n:4222\"}\n", "digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := render(t, c.values)
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v, it should say %q:\n%s", err, c.says, out)
			}
		})
	}
}

// TestSchemaIsHeld: the check of the objects finds something.
func TestSchemaIsHeld(t *testing.T) {
	out, err := render(t, image+"nats: {url: \"nats://n:4222\"}\nresources: {limit: {memory: 1Gi}}\n")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(tool(t, "kubectl-validate"), "--version", kubernetes[0], file).CombinedOutput(); err == nil || !strings.Contains(string(said), "limit") {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestLint(t *testing.T) {
	out, err := exec.Command(tool(t, "helm"), "lint", "--strict", "--kube-version", "1.30.0", chart, "--set", "image.repository=a,nats.url=nats://n:4222").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRunnerValues: the template of deployments/arc/values.yaml is a pod's.
func TestRunnerValues(t *testing.T) {
	data, err := os.ReadFile("../arc/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values struct{ Template map[string]any }
	if err := yaml.Unmarshal(data, &values); err != nil || values.Template["spec"] == nil {
		t.Fatal(err, values)
	}
	object := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "runner", "namespace": "arc"}, "spec": values.Template["spec"]}
	if data, err = yaml.Marshal(object); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, version := range kubernetes {
		if said, err := exec.Command(tool(t, "kubectl-validate"), "--version", version, file).CombinedOutput(); err != nil {
			t.Errorf("Kubernetes %s: %v\n%s", version, err, said)
		}
	}
}
