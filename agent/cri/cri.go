// Package cri asks the container runtime of a Kubernetes node what it knows of a pod: name,
// namespace and labels. It speaks the Container Runtime Interface, runtime.v1, as the
// kubelet does, on the runtime's own socket: containerd and CRI-O keep labels in no file that
// others may read. The node alone is asked, never the cluster, so that the agent needs no
// rights there.
//
// The one call that is made, ListPodSandbox, is written by hand on net/http: the libraries
// of gRPC and of Kubernetes would double the agent's program. The tests hold it to
// Kubernetes' own client and server of the interface, and to containerd.
package cri

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// sockets are where runtimes listen, below the machine's root folder.
var sockets = []string{
	"run/containerd/containerd.sock",
	"run/crio/crio.sock",
	"run/k3s/containerd/containerd.sock", // k3s, RKE2
	"run/k0s/containerd.sock",
	"var/snap/microk8s/common/run/containerd.sock",
	"run/cri-dockerd.sock",
}

// maxAnswer bounds an answer in bytes: more than a pod's sandboxes can need.
const maxAnswer = 4 << 20

// ErrNoRuntime is wrapped by errors of Pod that say that no runtime listens on this machine.
var ErrNoRuntime = errors.New("no container runtime's socket is there")

// Pod is what a runtime says of one.
type Pod struct {
	Name, Namespace string
	// Labels, with those that the kubelet adds (io.kubernetes.pod.name and so on).
	Labels map[string]string
}

// Client asks the runtimes of a machine. It is safe for concurrent use.
type Client struct{ runtimes []*runtime }

// runtime is one that may listen.
type runtime struct {
	socket string
	http   *http.Client
}

// New returns a client for the machine whose root folder is root. Nothing is connected to
// until Pod is called.
func New(root string) *Client {
	c := &Client{}
	for _, path := range sockets {
		c.runtimes = append(c.runtimes, newRuntime(filepath.Join(root, path)))
	}
	return c
}

func newRuntime(socket string) *runtime {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &runtime{socket: socket, http: &http.Client{
		Transport: &http.Transport{
			Protocols: &protocols,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
			DisableCompression: true,
			// A connection for each question: they are few, and a runtime may start again.
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Pod returns the pod with an UID as Kubernetes writes it, false if no runtime has it: its
// sandbox may not be complete yet. A machine may have several runtimes (Docker brings a
// containerd of its own): each is asked until one knows the pod. Errors wrap ErrNoRuntime, or
// are of a connection or a runtime, and may pass.
func (c *Client) Pod(ctx context.Context, uid string) (Pod, bool, error) {
	failed, answered := ErrNoRuntime, false
	for _, r := range c.runtimes {
		if info, err := os.Stat(r.socket); err != nil || info.Mode().Type() != os.ModeSocket {
			continue
		}
		answer, err := r.call(ctx, "ListPodSandbox", listRequest(uid))
		if err != nil {
			failed = fmt.Errorf("ask container runtime at %s for pod %s: %w", r.socket, uid, err)
			continue
		}
		answered = true
		pod, ok, err := newestOf(answer, uid)
		if err != nil {
			return Pod{}, false, fmt.Errorf("read what container runtime at %s says of pod %s: %w", r.socket, uid, err)
		}
		if ok {
			return pod, true, nil
		}
	}
	if answered {
		return Pod{}, false, nil
	}
	return Pod{}, false, failed
}

// call makes an unary call of gRPC (grpc/doc/PROTOCOL-HTTP2.md).
func (r *runtime) call(ctx context.Context, method string, message []byte) ([]byte, error) {
	body := make([]byte, 5, 5+len(message)) // not compressed; length
	binary.BigEndian.PutUint32(body[1:], uint32(len(message)))
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/runtime.v1.RuntimeService/"+method, bytes.NewReader(append(body, message...)))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", "application/grpc")
	q.Header.Set("TE", "trailers")
	if deadline, ok := ctx.Deadline(); ok {
		q.Header.Set("Grpc-Timeout", strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10)+"m")
	}
	answer, err := r.http.Do(q)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // the address says nothing
		}
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("answer has more than %d bytes", maxAnswer)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %s", answer.Status)
	}
	status, said := answer.Trailer.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Message")
	if status == "" { // an answer of trailers alone
		status, said = answer.Header.Get("Grpc-Status"), answer.Header.Get("Grpc-Message")
	}
	switch {
	case status == "":
		return nil, errors.New("answer has no gRPC status")
	case status != "0":
		if words, err := url.PathUnescape(said); err == nil {
			said = words
		}
		return nil, fmt.Errorf("gRPC status %q: %q", status, said)
	case len(data) < 5 || data[0] != 0 || uint64(binary.BigEndian.Uint32(data[1:])) != uint64(len(data)-5):
		return nil, errors.New("answer is not one message of gRPC")
	}
	return data[5:], nil
}

// The fields of runtime.v1 that are used (k8s.io/cri-api/pkg/apis/runtime/v1/api.proto).
const (
	requestFilter       = 1 // ListPodSandboxRequest
	filterLabelSelector = 3 // PodSandboxFilter
	responseItems       = 1 // ListPodSandboxResponse
	sandboxMetadata     = 2 // PodSandbox
	sandboxCreatedAt    = 4
	sandboxLabels       = 5
	metadataName        = 1 // PodSandboxMetadata
	metadataUID         = 2
	metadataNamespace   = 3
	entryKey            = 1 // of a map
	entryValue          = 2
)

// uidLabel is the label by which the kubelet finds the sandboxes of a pod.
const uidLabel = "io.kubernetes.pod.uid"

func listRequest(uid string) []byte {
	entry := appendText(appendText(nil, entryKey, uidLabel), entryValue, uid)
	filter := appendBytes(nil, filterLabelSelector, entry)
	return appendBytes(nil, requestFilter, filter)
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// newestOf returns the pod of the newest sandbox: one whose sandbox was made again has several.
func newestOf(answer []byte, uid string) (newest Pod, found bool, err error) {
	var newestAt uint64
	err = eachField(answer, func(field protowire.Number, value []byte, _ uint64) error {
		if field != responseItems {
			return nil
		}
		var pod Pod
		var itsUID string
		var at uint64
		err := eachField(value, func(field protowire.Number, value []byte, n uint64) error {
			if field == sandboxCreatedAt {
				at = n
				return nil
			}
			if field != sandboxMetadata && field != sandboxLabels {
				return nil
			}
			texts, err := textsOf(value)
			if field == sandboxMetadata {
				// One that comes in parts is put together, as by any reader of protobuf.
				for number, to := range map[protowire.Number]*string{metadataName: &pod.Name, metadataUID: &itsUID, metadataNamespace: &pod.Namespace} {
					if said, ok := texts[number]; ok {
						*to = said
					}
				}
				return err
			}
			if pod.Labels == nil {
				pod.Labels = make(map[string]string)
			}
			pod.Labels[texts[entryKey]] = texts[entryValue]
			return err
		})
		if err == nil && itsUID == uid && (!found || at >= newestAt) {
			newest, newestAt, found = pod, at, true
		}
		return err
	})
	return newest, found, err
}

// textsOf returns the fields of a message that are texts, by number.
func textsOf(message []byte) (map[protowire.Number]string, error) {
	texts := make(map[protowire.Number]string)
	err := eachField(message, func(field protowire.Number, value []byte, _ uint64) error {
		texts[field] = string(value)
		return nil
	})
	return texts, err
}

// eachField calls f with each field of a message that is a varint or a run of bytes.
func eachField(message []byte, f func(field protowire.Number, value []byte, n uint64) error) error {
	for len(message) > 0 {
		field, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
		var value []byte
		var n uint64
		switch kind {
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(message)
		default:
			size = protowire.ConsumeFieldValue(field, kind, message)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if kind == protowire.BytesType || kind == protowire.VarintType {
			if err := f(field, value, n); err != nil {
				return err
			}
		}
		message = message[size:]
	}
	return nil
}
