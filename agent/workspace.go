package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/agent/gitindex"
	"github.com/sallyport-ci/sallyport/agent/watchlist"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// maxArming is how many steps may wait to have their files watched.
	maxArming = 256
	// maxSources and maxSourceFolders bound what is watched of one checkout.
	maxSources       = 50_000
	maxSourceFolders = 8_000
	// releasePatience is how long folders of a job that has ended stay watched: what its
	// last processes did in them may be told after they are gone.
	releasePatience = 2 * time.Second
	// maxIndex bounds a git index in bytes.
	maxIndex = 64 << 20
)

// workspace is a step whose files are to be watched.
type workspace struct {
	execution   string
	step        *attribution
	before      *attribution // step before it, nil if none
	environment map[string]string
	disarm      bool
}

// workspaces watches, off the path of events, the files that a job makes important: those
// that steer its later steps, the folders of its PATH, and what it has checked out.
type workspaces struct {
	a       *Agent
	waiting chan workspace

	// Of work alone.
	armed map[string]*armed // by execution
	ended []ended           // oldest first
	// Who watches what: jobs share folders, and a file may have the number of one that a
	// job before it had.
	files   map[fileKey]string         // execution that watched it last
	folders map[string]map[string]bool // executions by folder
}

// ended is an execution whose folders are to be let go of.
type ended struct {
	execution string
	at        time.Time
}

// armed is what is watched for an execution.
type armed struct {
	execution string
	index     [2]int64 // time of modification and size of the index that was read
	files     map[fileKey]unix.Stat_t
	folders   map[string]bool
}

func newWorkspaces(a *Agent) *workspaces {
	return &workspaces{
		a: a, waiting: make(chan workspace, maxArming), armed: make(map[string]*armed),
		files: make(map[fileKey]string), folders: make(map[string]map[string]bool),
	}
}

// arm has the files of a step that starts watched, soon.
func (w *workspaces) arm(s workspace) {
	if s.environment == nil || w.a.cfg.Watcher == nil || !w.a.cfg.Watcher.CanWatch() {
		return
	}
	select {
	case w.waiting <- s:
	default:
		w.a.metrics.unwatched.Inc()
	}
}

// disarm lets go of the files of an execution that has ended, after a while.
func (w *workspaces) disarm(execution string) {
	select {
	case w.waiting <- workspace{execution: execution, disarm: true}:
	default: // they stay watched: of nobody that is attributed
	}
}

func (w *workspaces) work(stop <-chan struct{}) {
	ticker := time.NewTicker(releasePatience / 2)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			for len(w.ended) > 0 && now.Sub(w.ended[0].at) >= releasePatience {
				w.releaseFolders(w.ended[0].execution)
				w.ended = w.ended[1:]
			}
		case s := <-w.waiting:
			if s.disarm {
				w.releaseFiles(s.execution)
				w.ended = append(w.ended, ended{s.execution, time.Now()})
				continue
			}
			w.watch(s)
		}
	}
}

// releaseFiles lets go of the files of an execution: what was done to them has been told
// before the end of its worker.
func (w *workspaces) releaseFiles(execution string) {
	a := w.armed[execution]
	if a == nil {
		return
	}
	for key, stat := range a.files {
		if w.files[key] != execution {
			continue // it has become another job's
		}
		delete(w.files, key)
		w.a.mu.Lock()
		delete(w.a.files.files, key)
		w.a.mu.Unlock()
		w.noted(w.a.cfg.Watcher.UnwatchFile(&stat))
	}
	a.files = map[fileKey]unix.Stat_t{}
}

// releaseFolders lets go of the folders of an execution.
func (w *workspaces) releaseFolders(execution string) {
	a := w.armed[execution]
	delete(w.armed, execution)
	if a == nil {
		return
	}
	for folder := range a.folders {
		delete(w.folders[folder], execution)
		if len(w.folders[folder]) > 0 {
			continue
		}
		delete(w.folders, folder)
		w.a.mu.Lock()
		delete(w.a.files.folders, folder)
		w.a.mu.Unlock()
		w.noted(w.a.cfg.Watcher.UnwatchFolder(folder))
	}
}

// noted counts what could not be watched: the rest is.
func (w *workspaces) noted(err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, bpf.ErrCannotWatch) {
		return
	}
	w.a.metrics.unwatched.Inc()
	w.a.noRoom(err)
	w.a.log.Debug("a file is not watched", "error", err)
}

// noRoom counts, as a loss, a file that could be watched anywhere but that the kernel has no
// room for. (That some file systems cannot be watched is no news each time.)
func (a *Agent) noRoom(err error) {
	for _, full := range []error{bpf.ErrTooMany, unix.ENOMEM, unix.ENOSPC, unix.E2BIG} {
		if errors.Is(err, full) {
			a.unwatched.Add(1)
			return
		}
	}
}

func (w *workspaces) watch(s workspace) {
	at := w.armed[s.execution]
	if at == nil {
		at = &armed{execution: s.execution, files: make(map[fileKey]unix.Stat_t), folders: make(map[string]bool)}
		w.armed[s.execution] = at
	}
	for name, why := range map[string]reason{"GITHUB_ENV": environmentReason, "GITHUB_PATH": pathFileReason} {
		path := s.environment[name]
		if !filepath.IsAbs(path) {
			continue
		}
		if stat, ok := w.watchFile(at, path, why); ok && stat.Size > 0 {
			// The runner makes it empty: somebody was faster than we are.
			w.changedBefore(path, why, s.step)
		}
		// Another file may take its place.
		w.watchFolder(at, filepath.Dir(path), watchedFolder{only: map[string]reason{filepath.Base(path): why}})
	}
	for _, folder := range filepath.SplitList(s.environment["PATH"]) {
		if filepath.IsAbs(folder) {
			w.watchFolder(at, folder, watchedFolder{reason: pathFolderReason})
			w.watchEntries(folder)
		}
	}
	if home := s.environment["HOME"]; filepath.IsAbs(home) {
		for _, f := range w.a.cfg.WatchList.Readable(home) {
			w.watchReads(at, f.Path, f.Rule)
		}
	}
	if top := s.environment["GITHUB_WORKSPACE"]; filepath.IsAbs(top) {
		w.watchSources(at, top, s.before)
	}
}

func (w *workspaces) watchFile(at *armed, path string, why reason) (stat unix.Stat_t, ok bool) {
	if unix.Stat(path, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return stat, false
	}
	key := keyOf(&stat)
	at.files[key], w.files[key] = stat, at.execution
	w.a.mu.Lock()
	w.a.files.files[key] = watchedFile{path: path, reason: why, read: w.a.files.files[key].read}
	w.a.mu.Unlock()
	w.noted(w.a.cfg.Watcher.WatchFile(&stat, bpf.WatchedWrite))
	return stat, true
}

// watchReads watches a file whatever it is called when it is read. Where that fails it is
// watched by its name all the same.
func (w *workspaces) watchReads(at *armed, path string, rule *watchlist.Rule) {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return
	}
	key := keyOf(&stat)
	at.files[key], w.files[key] = stat, at.execution
	w.a.mu.Lock() // known before the first read of it can be told
	w.a.files.files[key] = watchedFile{path: path, reason: w.a.files.files[key].reason, read: rule}
	w.a.mu.Unlock()
	w.noted(w.a.cfg.Watcher.WatchReads(path))
}

func (w *workspaces) watchFolder(at *armed, path string, f watchedFolder) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return
	}
	w.a.mu.Lock()
	known, before := w.a.files.folders[real]
	ours := w.folders[real] != nil // or of the watch list
	if before && ours && known.only == nil {
		f = known // all of it is watched
	}
	for name, why := range known.only {
		if _, ok := f.only[name]; !ok && f.only != nil {
			f.only[name] = why
		}
	}
	if !before || ours {
		w.a.files.folders[real] = f
	}
	w.a.mu.Unlock()
	if before && !ours {
		return
	}
	if !ours {
		w.folders[real] = make(map[string]bool)
	}
	w.folders[real][at.execution], at.folders[real] = true, true
	w.noted(w.a.cfg.Watcher.WatchFolder(real))
}

// watchEntries watches what is written to files of a folder, by its name: no file of it
// comes or leaves then.
func (w *workspaces) watchEntries(folder string) {
	real, err := filepath.EvalSymlinks(folder)
	if err != nil || len(filepath.Base(real)) > bpf.MaxWatchedName {
		return
	}
	w.noted(w.a.cfg.Watcher.WatchName(filepath.Base(real), bpf.WatchedChildWrite))
}

// changedBefore says that a file was changed before it was watched.
func (w *workspaces) changedBefore(path string, why reason, step *attribution) {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	w.a.emit(&sallyportv1.Event{
		TimeUnixNano: w.a.wall(w.a.now),
		Body: &sallyportv1.Event_FileAccess{FileAccess: &sallyportv1.FileAccess{
			Operation: sallyportv1.FileOperation_FILE_OPERATION_WRITTEN, Path: text(path), Rule: why.rule, Category: why.category, Times: 1,
		}},
	}, nil, step, "file")
}

// watchSources watches what git has checked out, anew when that has changed. A file
// that is not any more as git left it was changed by the step before.
func (w *workspaces) watchSources(at *armed, top string, before *attribution) {
	path := filepath.Join(top, ".git", "index")
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxIndex || at.index == [2]int64{info.ModTime().UnixNano(), info.Size()} {
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	entries, more, err := gitindex.Parse(data, hashSize(filepath.Join(top, ".git", "config")), maxSources)
	if err != nil {
		w.noted(err)
		return
	}
	if more {
		w.a.metrics.unwatched.Inc()
	}
	at.index = [2]int64{info.ModTime().UnixNano(), info.Size()}
	folders := map[string]map[string]reason{}
	for _, e := range entries {
		file := filepath.Join(top, e.Path)
		stat, ok := w.watchFile(at, file, sourceReason)
		if !ok {
			continue
		}
		const seconds = 1 << 32
		changed := uint64(stat.Ctim.Sec%seconds)*1e9 + uint64(stat.Ctim.Nsec)
		if changed > e.Changed && uint32(stat.Size) != e.Size || stat.Mtim.Nano()%1e9 != int64(e.Modified%1e9) {
			w.changedBefore(file, sourceReason, before)
		}
		folder := filepath.Dir(file)
		if folders[folder] == nil {
			if len(folders) >= maxSourceFolders {
				continue
			}
			folders[folder] = map[string]reason{}
		}
		folders[folder][filepath.Base(file)] = sourceReason
	}
	for folder, names := range folders {
		w.watchFolder(at, folder, watchedFolder{except: checksOut, only: names})
	}
}

// hashSize is the size of a repository's object names.
func hashSize(config string) int {
	data, err := os.ReadFile(config)
	if err == nil && bytes.Contains(bytes.ToLower(data), []byte("objectformat = sha256")) {
		return 32
	}
	return 20
}
