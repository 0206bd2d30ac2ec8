package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// archiveWith makes an npm archive with a library of the given content.
func archiveWith(t *testing.T, name, content string) (file, digest string) {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, e := range []struct{ name, content string }{{"package/package.json", "{}"}, {name, content}} {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.content)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "engine.tgz")
	if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(buf.Bytes())
	return file, hex.EncodeToString(sum[:])
}

func TestUnpackVerifies(t *testing.T) {
	file, digest := archiveWith(t, "package/libchdb.so", "the library")
	path := filepath.Join(t.TempDir(), libraryName)
	library := sha256.Sum256([]byte("the library"))
	good := platformPackage{name: "x", archiveSHA256: digest, librarySHA256: hex.EncodeToString(library[:])}

	for name, pkg := range map[string]platformPackage{
		"other archive": {name: "x", archiveSHA256: strings.Repeat("0", 64)},
		"other library": {name: "x", archiveSHA256: digest, librarySHA256: strings.Repeat("0", 64)},
	} {
		if err := unpack(t.Context(), file, path, pkg, os.Stderr); err == nil || !strings.Contains(err.Error(), "digest") {
			t.Errorf("%s: %v", name, err)
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
		hidden, err2 := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
		if err := errors.Join(err, err2); err != nil || len(left)+len(hidden) != 0 {
			t.Errorf("%s: left behind %v %v %v", name, left, hidden, err)
		}
	}
	if err := unpack(t.Context(), file, path, good, os.Stderr); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "the library" {
		t.Fatalf("%q %v", got, err)
	}
	if !stampMatches(path) {
		t.Error("a verified library is not known again")
	}
	if err := os.WriteFile(path, []byte("the Library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if stampMatches(path) {
		t.Error("a changed library is taken for the verified one")
	}
	elsewhere, digest := archiveWith(t, "package/../libchdb.so", "x")
	if err := unpack(t.Context(), elsewhere, path, platformPackage{archiveSHA256: digest}, os.Stderr); err == nil {
		t.Error("an archive without the library was unpacked")
	}
}

func TestFetchSaysWhatIsMissing(t *testing.T) {
	cache := t.TempDir()
	if _, err := Locate(cache, ""); !errors.Is(err, ErrNoLibrary) {
		t.Errorf("empty cache: %v", err)
	}
	if _, err := Fetch(t.Context(), FetchConfig{CacheDir: cache, File: "/nowhere/libchdb.so"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Fetch(t.Context(), FetchConfig{CacheDir: cache}); err == nil || !strings.Contains(err.Error(), "npm is not installed") || !strings.Contains(err.Error(), "--engine") {
		t.Errorf("no npm: %v", err)
	}
	if err := checkSpace(cache, 1<<60); err == nil || !strings.Contains(err.Error(), "free") {
		t.Errorf("no space: %v", err)
	}
}

// TestFetchTogether plays npm by a script that gives an
// archive of the wrong digest: each caller is told so.
func TestFetchTogether(t *testing.T) {
	bin, cache := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = --pack-destination ] && echo not an archive > \"$2/x.tgz\"; shift; done\n"
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			_, err := Fetch(t.Context(), FetchConfig{CacheDir: cache})
			if err == nil || !strings.Contains(err.Error(), "digest") {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	left, err := filepath.Glob(filepath.Join(cache, "engine", Version, ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func FuzzExtractLibrary(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		digest, err := extractLibrary(&out, bytes.NewReader(data))
		sum := sha256.Sum256(out.Bytes())
		if err == nil && digest != hex.EncodeToString(sum[:]) {
			t.Fatal("the digest is not that of what was written")
		}
	})
}
