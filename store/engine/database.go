package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrDataInUse says that another process has the data folder open.
var ErrDataInUse = errors.New("the data folder is in use by another process")

// A database is the open engine of this process. Its methods may be called from any
// goroutine.
type database struct {
	lib      *library
	dir      string
	lock     *os.File
	base     *connection // kept open so that the engine is never shut down between requests
	control  sync.Mutex  // guards base
	settings map[string]bool
	// tableFunctions of the engine, in lower case.
	tableFunctions map[string]bool
	slots          chan struct{} // bounds the statements that run at once
}

// openDatabase opens the folder, making it if it is not there. memory is the limit of
// all the engine's memory in bytes, 0 for its own choice.
func openDatabase(lib *library, dir string, memory int64, parallel int) (*database, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder of the engine: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	args := []string{"--path=" + dir, "--mark_cache_size=" + strconv.Itoa(256<<20), "--uncompressed_cache_size=0",
		"--index_mark_cache_size=" + strconv.Itoa(64<<20), "--background_schedule_pool_size=4",
		"--background_common_pool_size=2", "--background_move_pool_size=1", "--background_fetches_pool_size=1",
		"--tables_loader_background_pool_size=2"}
	if memory > 0 {
		args = append(args, "--max_server_memory_usage="+strconv.FormatInt(memory, 10))
	}
	base, err := lib.connect(args...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", dir, err), lock.Close())
	}
	d := &database{lib: lib, dir: dir, lock: lock, base: base, settings: map[string]bool{}, tableFunctions: map[string]bool{}, slots: make(chan struct{}, parallel)}
	names, _, err := base.exec("SELECT name FROM system.settings", "TabSeparated", nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read settings of database %s: %w", dir, err), d.close())
	}
	for name := range strings.Lines(string(names)) {
		d.settings[strings.TrimSpace(name)] = true
	}
	if names, _, err = base.exec("SELECT lower(name) FROM system.table_functions", "TabSeparated", nil); err != nil {
		return nil, errors.Join(fmt.Errorf("read table functions of database %s: %w", dir, err), d.close())
	}
	for name := range strings.Lines(string(names)) {
		d.tableFunctions[strings.TrimSpace(name)] = true
	}
	return d, nil
}

// lockFolder takes the lock of the folder for the life of the process. The lock file
// names the holder.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, "sallyport.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		_ = f.Close()
		return nil, fmt.Errorf("open database %s: %w (process %s)", dir, ErrDataInUse, strings.TrimSpace(string(holder)))
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write lock file %s: %w", path, err), f.Close())
		}
	}
	return f, nil
}

// close closes the engine. No session may be open any more.
func (d *database) close() error {
	d.base.close()
	return errors.Join(d.lib.shutdown(), d.lock.Close())
}

// A session is a connection for one request, with the settings of that request.
type session struct {
	*connection
	db  *database
	tag string
}

// open waits for a free place and opens a session. tag marks its statements so that
// they can be found and ended.
func (d *database) open(ctx context.Context, tag string, settings []parameter) (*session, error) {
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, raise(codeTooManySimultaneous, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many simultaneous queries: all "+strconv.Itoa(cap(d.slots))+" places are taken")
	}
	args := []string{"--path=" + d.dir, "--implicit_select=0"}
	comment := tag
	for _, s := range settings {
		if s.name == "log_comment" {
			comment = tag + " " + s.value
			continue
		}
		args = append(args, "--"+s.name+"="+strings.ReplaceAll(s.value, "\x00", ""))
	}
	args = append(args, "--log_comment="+comment)
	c, err := d.lib.connect(args...)
	if err != nil {
		<-d.slots
		return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "The engine refused the settings of the request: "+settingNames(settings))
	}
	return &session{connection: c, db: d, tag: tag}, nil
}

func settingNames(settings []parameter) string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.name
	}
	return strings.Join(names, ", ")
}

func (s *session) close() {
	s.connection.close()
	<-s.db.slots
}

// guard runs f, which runs a statement of this session, and ends the statement when
// ctx ends before f does. It returns when f has.
func (s *session) guard(ctx context.Context, f func() error) error {
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		// The statement may not have begun yet, so ask again until it is over.
		for {
			s.db.kill(s.tag)
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	err := f()
	close(done)
	<-stopped
	return err
}

// kill asks the engine to end the statements of a tag. It does not wait for them.
// Nothing is to be done about an error: the caller asks again.
func (d *database) kill(tag string) {
	d.control.Lock()
	defer d.control.Unlock()
	_, _, _ = d.base.exec("KILL QUERY WHERE startsWith(Settings['log_comment'], {tag:String}) AND query NOT LIKE 'KILL%' ASYNC", "Null", []parameter{{"tag", tag}})
}
