package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	outer = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	inner = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
	uid   = "01234567-89ab-cdef-0123-456789abcdef"
)

func TestParseGroup(t *testing.T) {
	for path, want := range map[string]Group{
		"/":                            {},
		"/system.slice/docker.service": {},
		"/docker/" + outer:             {ID: outer},
		"/system.slice/docker-" + outer + ".scope":                   {ID: outer},
		"/docker/" + outer + "/init":                                 {ID: outer},
		"/user.slice/user-1000.slice/libpod-" + outer + ".scope":     {ID: outer},
		"/machine.slice/libpod-conmon-" + outer + ".scope/container": {ID: outer},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/cri-containerd-" + outer + ".scope": {ID: outer, PodUID: uid},
		"/kubepods/besteffort/pod" + uid + "/" + outer:                                           {ID: outer, PodUID: uid},
		"/kubepods/besteffort/pod" + uid + "/" + outer + "/docker/" + inner:                      {ID: inner, PodUID: uid},
		"/kubepods.slice/crio-" + outer + ".scope":                                               {ID: outer},
		"/system.slice/containerd.service/kubepods-pod" + uid + ".slice:cri-containerd:" + outer: {ID: outer},
		"/docker/" + outer[:63]:  {},
		"/docker/" + outer + "0": {},
	} {
		if got := ParseGroup(path); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for name, c := range map[string]struct {
		path, content string
		want          Description
	}{
		"docker": {
			"var/lib/docker/containers/" + outer + "/config.v2.json",
			`{"ID":"` + outer + `","Name":"/job_1","Image":"sha256:12","Config":{"Image":"node:22","Labels":{"a":"b"}}}`,
			Description{Image: "node:22", Name: "job_1"},
		},
		"containerd": {
			"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + outer + "/config.json",
			`{"ociVersion":"1.1.0","annotations":{"io.kubernetes.cri.image-name":"ghcr.example.test/actions/runner:2","io.kubernetes.cri.container-name":"runner","io.kubernetes.cri.sandbox-name":"arc-x-runner","io.kubernetes.cri.sandbox-namespace":"arc"}}`,
			Description{"ghcr.example.test/actions/runner:2", "runner", "arc-x-runner", "arc"},
		},
		"containerd of k3s": {
			"run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/" + outer + "/config.json",
			`{"annotations":{"io.kubernetes.cri.container-name":"runner","io.kubernetes.cri.sandbox-name":"arc-x-runner"}}`,
			Description{Name: "runner", Pod: "arc-x-runner"},
		},
		"cri-o": {
			"run/containers/storage/overlay-containers/" + outer + "/userdata/config.json",
			`{"annotations":{"io.kubernetes.cri-o.ImageName":"quay.example.test/x:1","io.kubernetes.container.name":"c","io.kubernetes.pod.name":"p","io.kubernetes.pod.namespace":"n"}}`,
			Description{"quay.example.test/x:1", "c", "p", "n"},
		},
		"podman": {
			"var/lib/containers/storage/overlay-containers/containers.json",
			`[{"id":"` + inner + `"},{"id":"` + outer + `","names":["eager"],"metadata":"{\"image-name\":\"docker.example.test/alpine:3\"}"}]`,
			Description{Image: "docker.example.test/alpine:3", Name: "eager"},
		},
		"broken":  {"var/lib/docker/containers/" + outer + "/config.v2.json", `{"Name":`, Description{}},
		"another": {"var/lib/docker/containers/" + inner + "/config.v2.json", `{"Name":"/x"}`, Description{}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, c.path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, ok := Describe(root, outer); got != c.want || ok != (c.want != Description{}) {
				t.Errorf("%+v, %t, want %+v", got, ok, c.want)
			}
		})
	}
}

func FuzzParseGroup(f *testing.F) {
	f.Add("/docker/" + outer + "/docker/" + inner)
	f.Fuzz(func(t *testing.T, path string) {
		if g := ParseGroup(path); len(g.ID) != 0 && len(g.ID) != 64 || len(g.PodUID) != 0 && len(g.PodUID) != 36 {
			t.Errorf("%q: %+v", path, g)
		}
	})
}
