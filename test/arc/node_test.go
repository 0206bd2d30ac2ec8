package arc

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// asRunc marks the test's own program where it stands for runc.
const asRunc = "SALLYPORT_TEST_AS_RUNC"

// image is that of every container.
const image = "registry.example.test/runner:1"

func TestMain(m *testing.M) {
	if os.Getenv(asRunc) != "" {
		fmt.Fprintln(os.Stderr, runc())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runc runs the real one, without limits: on machines of both versions of control groups the
// second, which the pods are in, has no controllers. It returns only if that fails.
func runc() error {
	program, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	if at := slices.Index(os.Args, "--bundle"); at > 0 && at+1 < len(os.Args) && slices.Contains(os.Args, "create") {
		path := filepath.Join(os.Args[at+1], "config.json")
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var spec map[string]any
		if err := json.Unmarshal(data, &spec); err != nil {
			return err
		}
		delete(spec["linux"].(map[string]any), "resources")
		if data, err = json.Marshal(spec); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return syscall.Exec(program, append([]string{"runc"}, os.Args[1:]...), os.Environ())
}

// node is a node of Kubernetes as far as the agent sees one: a containerd with pods, in a
// folder of its own, and this test in the kubelet's place.
type node struct {
	t       *testing.T
	root    string // of the machine
	parent  string // control group of all pods
	runtime runtimev1.RuntimeServiceClient
}

// newNode starts containerd.
func newNode(t *testing.T) *node {
	t.Helper()
	for _, program := range []string{"containerd", "ctr", "runc", "busybox", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("SALLYPORT_REQUIRE_ALL") == "" {
				t.Skip("skipped: ", err)
			}
			t.Fatal(err)
		}
	}
	n := &node{t: t, root: t.TempDir(), parent: fmt.Sprintf("/kubepods-test-%d", os.Getpid())}
	socket, state := filepath.Join(n.root, "run/containerd/containerd.sock"), filepath.Join(n.root, "run/containerd")
	if err := os.MkdirAll(state, 0o711); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n.write("runc", fmt.Sprintf("#!/bin/sh\n%s=1 exec %s \"$@\"\n", asRunc, self), 0o755)
	n.write("config.toml", strings.NewReplacer("ROOT", n.root, "IMAGE", image).Replace(`version = 2
root = "ROOT/var/lib/containerd"
state = "ROOT/run/containerd"
[grpc]
  address = "ROOT/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    BinaryName = "ROOT/runc"
`), 0o600)
	// Its mounts are its own; control groups of version 2 are where it looks for them.
	n.write("start", `mount --make-rprivate /
[ -e /sys/fs/cgroup/cgroup.controllers ] || mount --bind "$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)" /sys/fs/cgroup
exec containerd -c "$1"
`, 0o600)
	log, err := os.Create(filepath.Join(n.root, "containerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	containerd := exec.Command("unshare", "-m", "sh", "-e", n.path("start"), n.path("config.toml"))
	containerd.Stdout, containerd.Stderr = log, log
	if err := containerd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	n.runtime = runtimev1.NewRuntimeServiceClient(conn)
	t.Cleanup(func() {
		n.clear()
		err := errors.Join(conn.Close(), containerd.Process.Signal(syscall.SIGTERM))
		_ = containerd.Wait() // it is told to end
		if t.Failed() || err != nil {
			said, _ := os.ReadFile(log.Name())
			t.Logf("containerd: %v\n%s", err, said)
		}
	})
	n.await("containerd", func(ctx context.Context) error {
		_, err := n.runtime.Version(ctx, &runtimev1.VersionRequest{})
		return err
	})
	n.load(socket)
	images := runtimev1.NewImageServiceClient(conn)
	n.await("image", func(ctx context.Context) error {
		r, err := images.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: image}})
		if err == nil && r.GetImage() == nil {
			err = errors.New("not there")
		}
		return err
	})
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.root, name) }

func (n *node) write(name, text string, mode os.FileMode) {
	n.t.Helper()
	if err := os.WriteFile(n.path(name), []byte(text), mode); err != nil {
		n.t.Fatal(err)
	}
}

// await tries until it works.
func (n *node) await(what string, try func(context.Context) error) {
	n.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(n.t.Context(), 10*time.Second)
		err := try(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s: %v", what, err)
		}
	}
}

// marks are programs whose paths say where they ran. Each is busybox.
var marks = []string{"runner", "job-pod", "silent", "other-runner", "elsewhere", "second", "nobody", "rootless", "dind"}

// load gives containerd the one image: busybox, marks, and a runner's worker, which runs a
// step when it is told to.
func (n *node) load(socket string) {
	n.t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		n.t.Fatal(err)
	}
	worker := `#!/bin/sh
/bin/busybox env GITHUB_REPOSITORY=acme/arc GITHUB_WORKFLOW=ci GITHUB_RUN_ID=7 GITHUB_RUN_ATTEMPT=1 GITHUB_JOB=build GITHUB_ACTION=compile RUNNER_NAME=arc /bin/busybox sh -c '
while ! [ -e /go ]; do /bin/busybox sleep 0.05; done
/mark/runner/true'
/bin/busybox sleep 1000
`
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(h *tar.Header, data []byte) {
		h.Size, h.ModTime = int64(len(data)), time.Unix(1, 0)
		if err := w.WriteHeader(h); err != nil {
			n.t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			n.t.Fatal(err)
		}
	}
	folders := []string{"bin/", "proc/", "dev/", "sys/", "etc/", "tmp/", "runner/", "runner-with-hooks/", "mark/"}
	for _, m := range marks {
		folders = append(folders, "mark/"+m+"/")
	}
	for _, f := range folders {
		add(&tar.Header{Typeflag: tar.TypeDir, Name: f, Mode: 0o755}, nil)
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox)
	add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "busybox", Mode: 0o777}, nil)
	for _, m := range marks {
		for _, applet := range []string{"true", "wget"} {
			add(&tar.Header{Typeflag: tar.TypeLink, Name: "mark/" + m + "/" + applet, Linkname: "bin/busybox", Mode: 0o755}, nil)
		}
	}
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "runner/Runner.Worker", Mode: 0o755}, []byte(worker))
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "runner-with-hooks/Runner.Worker", Mode: 0o755}, []byte(workerWithHooks))
	if err := w.Close(); err != nil {
		n.t.Fatal(err)
	}
	digest := func(data []byte) string { sum := sha256.Sum256(data); return hex.EncodeToString(sum[:]) }
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			n.t.Fatal(err)
		}
		return data
	}
	config := encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{"/bin/busybox", "sleep", "1000"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer.Bytes())}},
	})
	name := digest(config) + ".json"
	manifest := encode([]map[string]any{{"Config": name, "RepoTags": []string{image}, "Layers": []string{"layer.tar"}}})
	var archive bytes.Buffer
	w = tar.NewWriter(&archive)
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Mode: 0o644}, manifest)
	add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, config)
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "layer.tar", Mode: 0o644}, layer.Bytes())
	if err := w.Close(); err != nil {
		n.t.Fatal(err)
	}
	for _, namespace := range []string{"k8s.io", "moby"} { // Kubernetes' and Docker's
		load := exec.Command("ctr", "-a", socket, "-n", namespace, "images", "import", "--snapshotter", "native", "-")
		load.Stdin = bytes.NewReader(archive.Bytes())
		if out, err := load.CombinedOutput(); err != nil {
			n.t.Fatalf("load image: %v\n%s", err, out)
		}
	}
}

// pod is one that runs.
type pod struct {
	*node
	id     string
	config *runtimev1.PodSandboxConfig
}

func (n *node) do(what string, f func(context.Context) error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	if err := f(ctx); err != nil {
		n.t.Fatalf("%s: %v", what, err)
	}
}

// pod makes one as the kubelet does.
func (n *node) pod(number int, name string, labels map[string]string) *pod {
	n.t.Helper()
	uid := fmt.Sprintf("%08d-89ab-cdef-0123-%012d", number, os.Getpid())
	all := map[string]string{"io.kubernetes.pod.uid": uid, "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "arc-runners"}
	for k, v := range labels {
		all[k] = v
	}
	p := &pod{node: n, config: &runtimev1.PodSandboxConfig{
		Metadata: &runtimev1.PodSandboxMetadata{Name: name, Uid: uid, Namespace: "arc-runners"}, Labels: all, LogDirectory: n.path("log"),
		Linux: &runtimev1.LinuxPodSandboxConfig{
			CgroupParent:    n.parent + "/pod" + uid,
			SecurityContext: &runtimev1.LinuxSandboxSecurityContext{NamespaceOptions: ownNamespaces()},
		},
	}}
	n.do("make pod "+name, func(ctx context.Context) error {
		r, err := n.runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: p.config})
		p.id = r.GetPodSandboxId()
		return err
	})
	return p
}

// ownNamespaces are a pod's, but for the network: it has the machine's, so that no plugin is
// needed.
func ownNamespaces() *runtimev1.NamespaceOption {
	return &runtimev1.NamespaceOption{Network: runtimev1.NamespaceMode_NODE, Pid: runtimev1.NamespaceMode_CONTAINER}
}

// start starts a container in a pod and returns its identity.
func (p *pod) start(name string, command ...string) string {
	p.t.Helper()
	return p.startWith(name, nil, command...)
}

// startWith starts one with files and folders of the node's, by their paths in the container.
func (p *pod) startWith(name string, files map[string]string, command ...string) string {
	p.t.Helper()
	var mounts []*runtimev1.Mount
	for inside, outside := range files {
		mounts = append(mounts, &runtimev1.Mount{ContainerPath: inside, HostPath: outside, Readonly: true})
	}
	var id string
	p.do("start container "+name, func(ctx context.Context) error {
		r, err := p.runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.config, Config: &runtimev1.ContainerConfig{
			Metadata: &runtimev1.ContainerMetadata{Name: name}, Image: &runtimev1.ImageSpec{Image: image}, Command: command, LogPath: name + ".log",
			Labels: map[string]string{"io.kubernetes.container.name": name}, Mounts: mounts,
			Linux: &runtimev1.LinuxContainerConfig{
				Resources:       &runtimev1.LinuxContainerResources{},
				SecurityContext: &runtimev1.LinuxContainerSecurityContext{NamespaceOptions: ownNamespaces()},
			},
		}})
		if err != nil {
			return err
		}
		id = r.GetContainerId()
		_, err = p.runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: id})
		return err
	})
	return id
}

// exec runs a program in a container, as kubectl exec and the runner's hooks do, and returns what
// it says.
func (p *pod) exec(container string, command ...string) (said string) {
	p.t.Helper()
	p.do("run "+strings.Join(command, " "), func(ctx context.Context) error {
		r, err := p.runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{ContainerId: container, Cmd: command, Timeout: 30})
		if err == nil && r.GetExitCode() != 0 {
			err = fmt.Errorf("exit code %d: %s", r.GetExitCode(), r.GetStderr())
		}
		said = string(r.GetStdout())
		return err
	})
	return said
}

func (p *pod) remove() {
	p.t.Helper()
	p.do("remove pod", func(ctx context.Context) error {
		_, stop := p.runtime.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: p.id})
		_, remove := p.runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: p.id})
		return errors.Join(stop, remove)
	})
}

// dind runs a program in a container that an engine within a container of the pod would make:
// its control group is below that one's.
func (p *pod) dind(container string, command ...string) {
	p.t.Helper()
	id := strings.Repeat(fmt.Sprintf("%08x", os.Getpid()), 8)
	args := []string{
		"-a", p.path("run/containerd/containerd.sock"), "-n", "moby", "run", "--rm", "--snapshotter", "native", "--runc-binary", p.path("runc"),
		"--cgroup", p.config.GetLinux().GetCgroupParent() + "/" + container + "/docker/" + id, "--net-host", image, id,
	}
	if out, err := exec.Command("ctr", append(args, command...)...).CombinedOutput(); err != nil {
		p.t.Fatalf("run a container in a container: %v\n%s", err, out)
	}
}

// clear removes all pods and their control groups.
func (n *node) clear() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.t.Context()), time.Minute)
	defer cancel()
	r, err := n.runtime.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{})
	if err != nil {
		n.t.Error(err)
	}
	for _, s := range r.GetItems() {
		_, stop := n.runtime.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: s.GetId()})
		_, remove := n.runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: s.GetId()})
		if err := errors.Join(stop, remove); err != nil {
			n.t.Error(err)
		}
	}
	for _, base := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		groups, _ := filepath.Glob(base + n.parent + "/*")
		for _, g := range append(groups, base+n.parent) {
			_ = os.Remove(g) // those of the other version are not there
		}
	}
}
