// Package container tells which container a control group belongs to, and what the
// machine's container engine says of it: image, name, pod. It reads the files that
// Docker, containerd, CRI-O and Podman keep; it talks to none of them, and so needs
// no socket, and changes nothing. What is in no file, the labels of pods, package cri
// asks for.
package container

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Group is what the path of a control group says.
type Group struct {
	// ID of the container, 64 hexadecimal digits; of the inner one where a container
	// runs in another. Empty outside of containers.
	ID string
	// PodUID identifies the pod, in the form of Kubernetes' UIDs. Empty outside of pods.
	PodUID string
}

var (
	// docker/ID, docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope,
	// libpod-ID.scope, kubepods/burstable/podUID/ID.
	idPattern = regexp.MustCompile(`(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?:/|$)`)
	// podUID, or kubepods-besteffort-podUID.slice with underscores in the UID.
	podPattern = regexp.MustCompile(`(?:^|[/-])pod([0-9a-f]{8}(?:[_-][0-9a-f]{4}){3}[_-][0-9a-f]{12})(?:\.slice)?(?:/|$)`)
)

// ParseGroup reads the path of a control group, from the root of its hierarchy.
func ParseGroup(path string) Group {
	var g Group
	for rest := path; ; {
		m := idPattern.FindStringSubmatchIndex(rest)
		if m == nil {
			break
		}
		g.ID = rest[m[2]:m[3]]
		rest = rest[m[3]:]
	}
	if m := podPattern.FindStringSubmatch(path); m != nil {
		g.PodUID = strings.ReplaceAll(m[1], "_", "-")
	}
	return g
}

// Description is what an engine says of a container. Each field may be empty.
type Description struct {
	Image, Name, Pod, PodNamespace string
}

// maxFile bounds the files of engines that are read, in bytes.
const maxFile = 8 << 20

// Describe looks for a container in the files of the known engines below root, the
// root folder of the machine. It says false if none knows it.
func Describe(root, id string) (Description, bool) {
	for _, engine := range []func(root, id string) (Description, bool){docker, containerd, crio, podman} {
		if d, ok := engine(root, id); ok {
			return d, true
		}
	}
	return Description{}, false
}

func readJSON(path string, into any) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(data, into) == nil
}

// docker reads /var/lib/docker/containers/ID/config.v2.json.
func docker(root, id string) (Description, bool) {
	var c struct {
		Name   string
		Config struct {
			Image  string
			Labels map[string]string
		}
	}
	if !readJSON(filepath.Join(root, "var/lib/docker/containers", id, "config.v2.json"), &c) {
		return Description{}, false
	}
	return Description{
		Image: c.Config.Image, Name: strings.TrimPrefix(c.Name, "/"),
		Pod: c.Config.Labels["io.kubernetes.pod.name"], PodNamespace: c.Config.Labels["io.kubernetes.pod.namespace"],
	}, true
}

// containerdStates are the state folders of containerd: its own, and those of Kubernetes'
// distributions that bring one.
var containerdStates = []string{
	"run/containerd", "run/k3s/containerd", "run/k0s/containerd", "var/snap/microk8s/common/run/containerd",
}

// containerd reads the OCI configuration of a task: below
// /run/containerd/io.containerd.runtime.v2.task/NAMESPACE/ID.
func containerd(root, id string) (Description, bool) {
	for _, state := range containerdStates {
		found, err := filepath.Glob(filepath.Join(root, state, "io.containerd.runtime.v2.task/*", id, "config.json"))
		if err != nil || len(found) == 0 {
			continue
		}
		return annotated(found[0], "io.kubernetes.cri.image-name", "io.kubernetes.cri.container-name",
			"io.kubernetes.cri.sandbox-name", "io.kubernetes.cri.sandbox-namespace")
	}
	return Description{}, false
}

// crio reads the OCI configuration that CRI-O keeps.
func crio(root, id string) (Description, bool) {
	d, ok := annotated(filepath.Join(root, "run/containers/storage/overlay-containers", id, "userdata/config.json"),
		"io.kubernetes.cri-o.ImageName", "io.kubernetes.container.name", "io.kubernetes.pod.name", "io.kubernetes.pod.namespace")
	return d, ok && d.Pod != "" // else it is Podman's
}

func annotated(path, image, name, pod, namespace string) (Description, bool) {
	var c struct {
		Annotations map[string]string `json:"annotations"`
	}
	if !readJSON(path, &c) {
		return Description{}, false
	}
	return Description{
		Image: c.Annotations[image], Name: c.Annotations[name], Pod: c.Annotations[pod], PodNamespace: c.Annotations[namespace],
	}, true
}

// podman reads the list of containers of containers/storage.
func podman(root, id string) (Description, bool) {
	var list []struct {
		ID       string   `json:"id"`
		Names    []string `json:"names"`
		Metadata string   `json:"metadata"`
	}
	if !readJSON(filepath.Join(root, "var/lib/containers/storage/overlay-containers/containers.json"), &list) {
		return Description{}, false
	}
	for _, c := range list {
		if c.ID != id {
			continue
		}
		var metadata struct {
			Image string `json:"image-name"`
			Name  string `json:"name"`
		}
		// Without it only the image is not known.
		_ = json.Unmarshal([]byte(c.Metadata), &metadata)
		d := Description{Image: metadata.Image, Name: metadata.Name}
		if d.Name == "" && len(c.Names) > 0 {
			d.Name = c.Names[0]
		}
		return d, true
	}
	return Description{}, false
}
