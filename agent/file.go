package agent

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/agent/watchlist"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Watcher tells the kernel which files, functions and processes matter: a *bpf.Sensor. Its methods are safe for
// concurrent use.
type Watcher interface {
	// CanWatch says whether this kernel can.
	CanWatch() bool
	WatchName(name string, what bpf.Watched) error
	WatchFile(stat *unix.Stat_t, what bpf.Watched) error
	WatchReads(path string) error
	UnwatchFile(stat *unix.Stat_t) error
	WatchFolder(path string) error
	UnwatchFolder(path string) error
	// WatchTLS watches a function that encrypts, until the result is closed.
	WatchTLS(path string, offset uint64, convention bpf.Convention, library uint64) (io.Closer, error)
	// IgnoreTLS ends the records of a connection.
	IgnoreTLS(process, connection uint64) error
	// Adopt makes a program that runs a part of a step.
	Adopt(process uint64, pid uint32) (bool, error)
	// Times returns how often a process has done to a file what the record reports.
	Times(f *bpf.File) (uint64, error)
}

// reason is why a file matters.
type reason struct{ rule, category string }

// Reasons that come from a job rather than from the watch list.
var (
	sourceReason      = reason{"source_file", "source"}
	environmentReason = reason{"step_environment", "steering"}
	pathFileReason    = reason{"step_path", "steering"}
	pathFolderReason  = reason{"path_folder", "steering"}
)

type fileKey struct {
	inode  uint64
	device uint32
}

// watchedFile is a file that is watched by its inode.
type watchedFile struct {
	path   string
	reason                 // why writes to it matter, zero if they do not
	read   *watchlist.Rule // why reads of it matter, nil if they do not
}

// isStill says whether a file that was changed under some name is the one that was
// watched: the file system gives the numbers of removed files to new ones.
func (f watchedFile) isStill(key fileKey, name string) bool {
	if filepath.Base(name) == filepath.Base(f.path) {
		return true
	}
	var stat unix.Stat_t // it may have got another name
	return unix.Stat(f.path, &stat) == nil && keyOf(&stat) == key
}

func keyOf(stat *unix.Stat_t) fileKey {
	return fileKey{stat.Ino, unix.Major(stat.Dev)<<20 | unix.Minor(stat.Dev)}
}

// watchedFolder is a folder whose entries are watched: all of them, or only some.
type watchedFolder struct {
	reason // of all entries
	except func(program string) bool
	only   map[string]reason // of these entries alone, when they change; all if nil
}

// of returns why what was done to an entry matters; false if it does not.
func (f watchedFolder) of(name, program string, done bpf.FileAccess) (reason, bool) {
	if f.except != nil && f.except(program) {
		return reason{}, false
	}
	if f.only == nil {
		return f.reason, true
	}
	why, ok := f.only[name]
	return why, ok && done != bpf.FileRead
}

// fileTable knows what is watched.
type fileTable struct {
	files   map[fileKey]watchedFile
	folders map[string]watchedFolder
	mounts  mountTable
}

func newFileTable() fileTable {
	return fileTable{files: make(map[fileKey]watchedFile), folders: make(map[string]watchedFolder)}
}

// touch is something that a process did to a file.
type touch struct {
	record bpf.File
	event  *sallyportv1.FileAccess
	told   uint64
	times  uint64 // of what the kernel does not count
}

// maxTouches bounds how many files of a process are told of. More is no secret search:
// it is a program that copies folders.
const maxTouches = 256

// watchList watches the files of the list.
func (a *Agent) watchList() error {
	w := a.cfg.Watcher
	if w == nil || !w.CanWatch() {
		return nil
	}
	var errs []error
	for _, n := range a.cfg.WatchList.Names() {
		what := bpf.WatchedRead
		switch {
		case n.Folder && n.Write:
			what = bpf.WatchedChildWrite
		case n.Folder:
			what = bpf.WatchedChildRead
		case n.Write:
			what = bpf.WatchedWrite
		}
		errs = append(errs, w.WatchName(n.Text, what))
	}
	for _, f := range a.cfg.WatchList.Folders() {
		errs = append(errs, a.watchFolder(f.Path, watchedFolder{
			reason: reason{f.Rule.Name, f.Rule.Category}, except: f.Rule.Excepts,
		}))
	}
	return errors.Join(errs...)
}

// watchFolder watches a folder of the machine, if it exists.
func (a *Agent) watchFolder(path string, f watchedFolder) error {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.files.folders[real] = f
	a.mu.Unlock()
	err = a.cfg.Watcher.WatchFolder(real)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, bpf.ErrCannotWatch) {
		return nil
	}
	return err
}

var fileOperations = map[bpf.FileAccess]sallyportv1.FileOperation{
	bpf.FileRead:    sallyportv1.FileOperation_FILE_OPERATION_READ,
	bpf.FileWrite:   sallyportv1.FileOperation_FILE_OPERATION_WRITTEN,
	bpf.FileEntered: sallyportv1.FileOperation_FILE_OPERATION_ENTERED,
	bpf.FileLeft:    sallyportv1.FileOperation_FILE_OPERATION_LEFT,
}

func (a *Agent) file(r *bpf.File) {
	p := a.processes.get(r.Process)
	if p.attributed() == nil || a.requests.library(r) {
		return
	}
	path, why, ok := a.files.explain(r, p.message, a.cfg.WatchList)
	if !ok {
		return
	}
	for _, t := range p.files {
		if t.event.GetPath() == path && t.record.Access == r.Access {
			t.times++
			return
		}
	}
	p = a.actor(r.Head())
	e := &sallyportv1.FileAccess{
		Operation: fileOperations[r.Access], Path: text(path), Rule: why.rule, Category: why.category, Times: 1,
	}
	if len(p.files) < maxTouches {
		p.files = append(p.files, &touch{record: *r, event: e, told: 1, times: 1})
	}
	a.emitFile(e, p, r.Time)
	a.urgent()
}

func (a *Agent) emitFile(e *sallyportv1.FileAccess, p *process, boot uint64) {
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(boot),
		Body:         &sallyportv1.Event_FileAccess{FileAccess: e},
	}, p, p.at, "file")
}

// emitTimes says, at the end of a program, how often it did again what was told.
func (a *Agent) emitTimes(p *process, boot uint64) {
	if p == nil {
		return
	}
	for _, t := range p.files {
		if t.record.Inode != 0 && a.cfg.Watcher != nil {
			n, err := a.cfg.Watcher.Times(&t.record)
			if err != nil {
				a.log.Debug("accesses are not counted", "path", t.event.GetPath(), "error", err)
			}
			t.times = max(t.times, n)
		}
		if t.times <= t.told {
			continue
		}
		again := &sallyportv1.FileAccess{
			Operation: t.event.GetOperation(), Path: t.event.GetPath(), Rule: t.event.GetRule(),
			Category: t.event.GetCategory(), Times: t.times - t.told,
		}
		t.told = t.times
		a.emitFile(again, p, boot)
	}
	p.files = nil
}

// explain finds the path of a file and why it matters that a process did it; false if it
// does not.
func (t *fileTable) explain(r *bpf.File, by *sallyportv1.Process, list *watchlist.List) (string, reason, bool) {
	program, started := by.GetExecutable(), by.GetStartTimeUnixNano()
	if r.Whole {
		folder, name := filepath.Split(r.Path)
		f, ok := t.folders[filepath.Clean(folder)]
		if !ok {
			return "", reason{}, false
		}
		why, ok := f.of(name, program, r.Access)
		return r.Path, why, ok
	}
	key := fileKey{r.Inode, r.Device}
	f, ok := t.files[key]
	if r.Watched&bpf.WatchedInodeRead != 0 { // the kernel knows that it is the same file
		if !ok || f.read == nil || f.read.Excepts(program) {
			return "", reason{}, false
		}
		return f.path, reason{f.read.Name, f.read.Category}, true
	}
	ok = ok && f.reason != reason{} && r.Access == bpf.FileWrite
	if ok && !f.isStill(key, r.Path) {
		delete(t.files, key) // the number is that of another file by now
	} else if ok {
		if f.reason == sourceReason && checksOut(program) {
			return "", reason{}, false
		}
		return f.path, f.reason, true
	}
	if r.Path == "" {
		return "", reason{}, false
	}
	path := t.mounts.path(r.Device, r.Path)
	if rule := list.Match(r.Path, program, r.Access == bpf.FileWrite); rule != nil {
		return path, reason{rule.Name, rule.Category}, true
	}
	// What a process has put into a folder of PATH itself is told of as having come there.
	if f := t.folders[filepath.Dir(path)]; f.reason == pathFolderReason && r.Access == bpf.FileWrite && !bornSince(path, started) {
		return path, pathFolderReason, true
	}
	return "", reason{}, false
}

// birthSlack is how far a file's time of birth may lie before its true one: file systems
// go by the tick of the clock.
const birthSlack = 10 * time.Millisecond

// bornSince says whether a file is younger than a time in Unix nanoseconds. Where the
// file system does not know, none is.
func bornSince(path string, started uint64) bool {
	var stat unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &stat) != nil || stat.Mask&unix.STATX_BTIME == 0 {
		return false
	}
	return uint64(stat.Btime.Sec)*1e9+uint64(stat.Btime.Nsec)+uint64(birthSlack) >= started
}

// checksOut says whether a program is the machine's git, which writes what is checked
// out.
func checksOut(program string) bool {
	r := watchlist.Rule{Except: []string{"git", "git-lfs", "git-remote-http", "git-remote-https"}}
	return r.Excepts(program)
}
