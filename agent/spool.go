package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/wholefile"
)

// errSpoolFull says that a batch does not fit into the spool any more.
var errSpoolFull = errors.New("spool is full")

// spool keeps packed batches on disk, one file each, named so that their order is
// the order in which they were made. It survives whatever ends the agent: a file is
// whole or not there.
type spool struct {
	dir      string
	maxBytes int64
	bytes    int64
	names    []string // oldest first
	sizes    map[string]int64
}

func openSpool(dir string, maxBytes int64) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read spool folder: %w", err)
	}
	s := &spool{dir: dir, maxBytes: maxBytes, sizes: make(map[string]int64)}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".new-") { // an agent was killed while writing it
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove half-written batch: %w", err)
			}
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(e.Name(), stream.SpoolSuffix) {
			continue
		}
		s.enter(e.Name(), info.Size())
	}
	slices.Sort(s.names)
	return s, nil
}

func (s *spool) enter(name string, size int64) {
	s.names = append(s.names, name)
	s.sizes[name] = size
	s.bytes += size
}

// put keeps a batch.
func (s *spool) put(p packed) error {
	if s.bytes+int64(len(p.data)) > s.maxBytes {
		return fmt.Errorf("keep batch %s: %w: %d of %d bytes", p.id, errSpoolFull, s.bytes, s.maxBytes)
	}
	name := stream.SpoolName{Epoch: p.epoch, First: p.first, Events: p.events}.String()
	if err := wholefile.Write(filepath.Join(s.dir, name), 0o600, p.data); err != nil {
		return fmt.Errorf("keep batch %s: %w", p.id, err)
	}
	s.enter(name, int64(len(p.data)))
	return nil
}

// oldest returns up to n batches, oldest first. A file that is not a batch is put
// aside.
func (s *spool) oldest(n int, agentID string) ([]packed, error) {
	var batches []packed
	for _, name := range slices.Clone(s.names[:min(n, len(s.names))]) {
		of, ok := stream.ParseSpoolName(name)
		if !ok {
			s.forget(name)
			if err := os.Rename(filepath.Join(s.dir, name), filepath.Join(s.dir, name+".foreign")); err != nil {
				return nil, fmt.Errorf("put foreign file aside: %w", err)
			}
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			return nil, fmt.Errorf("read spooled batch: %w", err)
		}
		batches = append(batches, packed{
			id: fmt.Sprintf("%s.%d.%d", agentID, of.Epoch, of.First), epoch: of.Epoch, first: of.First, events: of.Events, data: data, file: name,
		})
	}
	return batches, nil
}

// remove drops a batch that has been published.
func (s *spool) remove(p packed) error {
	s.forget(p.file)
	if err := os.Remove(filepath.Join(s.dir, p.file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove published batch from spool: %w", err)
	}
	return nil
}

func (s *spool) forget(name string) {
	s.bytes -= s.sizes[name]
	delete(s.sizes, name)
	if i := slices.Index(s.names, name); i >= 0 {
		s.names = slices.Delete(s.names, i, i+1)
	}
}

func (s *spool) len() int { return len(s.names) }
