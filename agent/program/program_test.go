package program

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func functions(t *testing.T, path string) []Function {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	found, err := Functions(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return found
}

// symbolAt is the name of the function that begins at an offset in a file.
func symbolAt(t *testing.T, path string, offset uint64) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	all, _ := f.Symbols()
	dynamic, _ := f.DynamicSymbols()
	for _, s := range append(all, dynamic...) {
		if at, ok := fileOffset(f, s.Value); ok && at == offset && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			return s.Name
		}
	}
	return ""
}

const goProgram = `package main

import ("net/http"; "os")

func main() { http.Get(os.Args[1]) }
`

// TestGo: the function is found with symbols, and at the same place without.
func TestGo(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(goProgram), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{
		"plain":    {},
		"stripped": {"-ldflags=-s -w", "-trimpath"},
		"pie":      {"-buildmode=pie"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), source)...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			found := functions(t, path)
			if len(found) != 1 || found[0].Library != Go {
				t.Fatalf("%+v", found)
			}
			if name == "stripped" {
				return // uprobes (agent's TestRequests) show that it is right
			}
			if got := symbolAt(t, path, found[0].Offset); got != goFunction {
				t.Errorf("%s is at %#x", got, found[0].Offset)
			}
		})
	}
}

func TestLibraries(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	if node, err = filepath.EvalSymlinks(node); err != nil {
		t.Fatal(err)
	}
	find := func(pattern string) string {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		return found[0]
	}
	for path, want := range map[string]map[string]Library{
		find("/usr/lib/*-linux-gnu/libssl.so.*"):     {"SSL_write": OpenSSL, "SSL_write_ex": OpenSSL},
		find("/usr/lib/*-linux-gnu/libgnutls.so.30"): {"gnutls_record_send": GnuTLS},
		node:        {"SSL_write": Node, "SSL_write_ex": Node},
		"/bin/true": {},
	} {
		found := functions(t, path)
		if len(found) != len(want) {
			t.Errorf("%s: %+v", path, found)
		}
		for _, f := range found {
			if name := symbolAt(t, path, f.Offset); want[name] != f.Library {
				t.Errorf("%s: %s at %#x of library %d", path, name, f.Offset, f.Library)
			}
		}
	}
}

func FuzzFunctions(f *testing.F) {
	for _, path := range []string{"/bin/true", "/proc/self/exe"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 1<<16)])
	}
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := Functions(bytes.NewReader(data)); err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%v", err)
		}
	})
}
