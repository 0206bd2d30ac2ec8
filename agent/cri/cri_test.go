package cri

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	uid   = "01234567-89ab-cdef-0123-456789abcdef"
	other = "11111111-89ab-cdef-0123-456789abcdef"
)

// fake is a runtime that knows sandboxes, by Kubernetes' own code of the interface.
type fake struct {
	runtimev1.UnimplementedRuntimeServiceServer
	list func(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error)
}

func (f *fake) ListPodSandbox(ctx context.Context, q *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	if f.list == nil {
		return f.UnimplementedRuntimeServiceServer.ListPodSandbox(ctx, q)
	}
	return f.list(ctx, q)
}

// listen has a runtime listen on a socket below root.
func listen(t *testing.T, root, socket string, f *fake) {
	t.Helper()
	path := filepath.Join(root, socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	runtimev1.RegisterRuntimeServiceServer(s, f)
	t.Cleanup(s.Stop)
	go func() { _ = s.Serve(l) }() // ends with Stop
}

// holding is a runtime with sandboxes, which filters as runtimes do.
func holding(sandboxes ...*runtimev1.PodSandbox) *fake {
	return &fake{list: func(_ context.Context, q *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
		r := &runtimev1.ListPodSandboxResponse{}
		for _, s := range sandboxes {
			fits := true
			for name, value := range q.GetFilter().GetLabelSelector() {
				fits = fits && s.GetLabels()[name] == value
			}
			if fits {
				r.Items = append(r.Items, s)
			}
		}
		return r, nil
	}}
}

func sandbox(id, uid, name string, created int64, labels map[string]string) *runtimev1.PodSandbox {
	all := map[string]string{uidLabel: uid}
	maps.Copy(all, labels)
	return &runtimev1.PodSandbox{
		Id: id, Metadata: &runtimev1.PodSandboxMetadata{Name: name, Uid: uid, Namespace: "arc", Attempt: 1}, CreatedAt: created,
		Labels: all, Annotations: map[string]string{"kubernetes.io/config.source": "api"}, RuntimeHandler: "runc", State: runtimev1.PodSandboxState_SANDBOX_READY,
	}
}

func TestPod(t *testing.T) {
	root := t.TempDir()
	listen(t, root, "run/containerd/containerd.sock", holding(
		sandbox("a", other, "someone", 9, map[string]string{"app": "x"}),
		sandbox("b", uid, "arc-runner", 7, map[string]string{"actions.github.com/scale-set-name": "arc", "empty": ""}),
		sandbox("c", uid, "arc-runner", 5, map[string]string{"actions.github.com/scale-set-name": "old"}),
	))
	c := New(root)
	for range 2 {
		pod, ok, err := c.Pod(t.Context(), uid)
		want := map[string]string{"actions.github.com/scale-set-name": "arc", "empty": "", uidLabel: uid}
		if err != nil || !ok || pod.Name != "arc-runner" || pod.Namespace != "arc" || !maps.Equal(pod.Labels, want) {
			t.Errorf("%+v %v %v, want labels %v", pod, ok, err, want)
		}
	}
	if pod, ok, err := c.Pod(t.Context(), strings.ReplaceAll(uid, "0", "9")); ok || err != nil {
		t.Errorf("of a pod that is not there: %+v %v %v", pod, ok, err)
	}
}

// TestForeignAnswer: a runtime that does not look at the filter does not give a pod the labels
// of another one.
func TestForeignAnswer(t *testing.T) {
	root := t.TempDir()
	listen(t, root, "run/crio/crio.sock", &fake{list: func(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
		return &runtimev1.ListPodSandboxResponse{Items: []*runtimev1.PodSandbox{sandbox("a", other, "someone", 9, map[string]string{"app": "x"})}}, nil
	}})
	if pod, ok, err := New(root).Pod(t.Context(), uid); ok || err != nil {
		t.Errorf("%+v %v %v", pod, ok, err)
	}
}

// TestSeveralRuntimes: Docker's containerd, whose part for Kubernetes is off, beside k3s.
func TestSeveralRuntimes(t *testing.T) {
	root := t.TempDir()
	listen(t, root, "run/containerd/containerd.sock", &fake{})
	listen(t, root, "run/crio/crio.sock", holding())
	listen(t, root, "run/k3s/containerd/containerd.sock", holding(sandbox("b", uid, "arc-runner", 7, map[string]string{"a": "b"})))
	if pod, ok, err := New(root).Pod(t.Context(), uid); err != nil || !ok || pod.Labels["a"] != "b" {
		t.Errorf("%+v %v %v", pod, ok, err)
	}
}

func TestTrouble(t *testing.T) {
	root := t.TempDir()
	c := New(root)
	if _, _, err := c.Pod(t.Context(), uid); !errors.Is(err, ErrNoRuntime) {
		t.Errorf("no socket: %v", err)
	}
	path := filepath.Join(root, "run/containerd/containerd.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Pod(t.Context(), uid); !errors.Is(err, ErrNoRuntime) {
		t.Errorf("a file: %v", err)
	}
	for name, x := range map[string]struct {
		list func(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error)
		want string
	}{
		"refused": {func(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
			return nil, status.Error(codes.Unavailable, "not yet 50%\n")
		}, `gRPC status "14": "not yet 50%\n"`},
		"not built in": {nil, `gRPC status "12"`},
		"too much": {func(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
			return &runtimev1.ListPodSandboxResponse{Items: []*runtimev1.PodSandbox{sandbox(strings.Repeat("a", maxAnswer), uid, "p", 1, nil)}}, nil
		}, "more than"},
		"slow": {func(ctx context.Context, _ *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
			<-ctx.Done() // the deadline goes with the call: whoever sees it first ends it
			return nil, ctx.Err()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			listen(t, root, "run/containerd/containerd.sock", &fake{list: x.list})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if name == "slow" {
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			}
			defer cancel()
			if _, ok, err := New(root).Pod(ctx, uid); ok || err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(x.want)) {
				t.Errorf("%v %v, want %q", ok, err, x.want)
			}
		})
	}
}

// TestRuntimeRestarts: the next question finds the new one.
func TestRuntimeRestarts(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "run/containerd/containerd.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	c := New(root)
	for range 2 {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		runtimev1.RegisterRuntimeServiceServer(s, holding(sandbox("b", uid, "arc-runner", 7, map[string]string{"a": "b"})))
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		if _, ok, err := c.Pod(t.Context(), uid); !ok || err != nil {
			t.Fatal(ok, err)
		}
		s.Stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzAnswer: no answer, however broken, ends the agent, and what Kubernetes' own reader
// takes is read alike.
func FuzzAnswer(f *testing.F) {
	for _, r := range []*runtimev1.ListPodSandboxResponse{
		{}, {Items: []*runtimev1.PodSandbox{sandbox("b", uid, "p", 7, map[string]string{"a": "b"}), sandbox("c", uid, "q", 8, map[string]string{"a": "c"})}},
	} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pod, ok, err := newestOf(data, uid)
		var r runtimev1.ListPodSandboxResponse
		if proto.Unmarshal(data, &r) != nil || err != nil {
			return
		}
		var want *runtimev1.PodSandbox
		for _, s := range r.GetItems() {
			if s.GetMetadata().GetUid() == uid && (want == nil || uint64(s.GetCreatedAt()) >= uint64(want.GetCreatedAt())) {
				want = s
			}
		}
		if ok != (want != nil) || ok && (pod.Name != want.GetMetadata().GetName() || pod.Namespace != want.GetMetadata().GetNamespace() || !maps.Equal(pod.Labels, want.GetLabels())) {
			t.Errorf("%+v, want %v", pod, want)
		}
	})
}
