package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// maxDigests bounds how many digests are remembered, and maxDigesting how many files
	// may wait for theirs.
	maxDigests   = 1 << 14
	maxDigesting = 1 << 10
	// maxDigested bounds a file in bytes.
	maxDigested = 1 << 30
)

// version is a file as it is at one time.
type version struct {
	fileKey
	changed uint64 // its time of change, Unix nanoseconds
}

// digesting is a file whose digest is wanted.
type digesting struct {
	version version
	process *process
	pid     uint32
	path    string
}

// digests computes, off the path of events and only when the machine has nothing better
// to do, what the programs of jobs hold.
type digests struct {
	a       *Agent
	waiting chan digesting

	known map[version]string // empty while it is being computed; guarded by a.mu
}

func newDigests(a *Agent) *digests {
	return &digests{a: a, waiting: make(chan digesting, maxDigesting), known: make(map[version]string)}
}

// of returns the digest of a program's file if it is known, and otherwise has it
// computed. a.mu is held.
func (d *digests) of(p *process, key fileKey, changed uint64, pid uint32) string {
	v := version{key, changed}
	digest, known := d.known[v]
	if known || key.inode == 0 || p.at == nil {
		return digest
	}
	if len(d.known) >= maxDigests {
		clear(d.known) // rare: what is still in use is computed again
	}
	select {
	case d.waiting <- digesting{v, p, pid, p.message.GetExecutable()}:
		d.known[v] = ""
	default:
		d.a.metrics.undigested.Inc()
	}
	return ""
}

func (d *digests) work(stop <-chan struct{}) {
	runtime.LockOSThread() // it ends with the goroutine, and its priority with it
	if err := stepBack(); err != nil {
		d.a.log.Debug("digests are computed with the priority of all else", "error", err)
	}
	buffer := make([]byte, 128<<10)
	for {
		select {
		case <-stop:
			return
		case next := <-d.waiting:
			sum, size, err := next.compute(buffer, stop)
			d.a.mu.Lock()
			if err != nil {
				delete(d.known, next.version)
				d.a.metrics.undigested.Inc()
			} else {
				d.known[next.version] = sum
				d.a.emitDigest(next, sum, size)
			}
			d.a.mu.Unlock()
		}
	}
}

// stepBack has this thread run, and read from disks, only when nobody else wants to.
func stepBack() error {
	const (
		ioprioWhoProcess = 1
		ioprioClassIdle  = 3 << 13
	)
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioClassIdle); errno != 0 {
		err = errors.Join(err, fmt.Errorf("ioprio_set: %w", errno))
	}
	return err
}

var errOtherFile = errors.New("another file is there by now")

// compute reads the file: through the process, while it runs, which reaches into any
// container and to files without a name, or by its path.
func (d *digesting) compute(buffer []byte, stop <-chan struct{}) (sum string, size uint64, err error) {
	f, err := d.open()
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	for {
		select {
		case <-stop:
			return "", 0, os.ErrClosed
		default:
		}
		n, err := f.Read(buffer)
		h.Write(buffer[:n])
		size += uint64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", 0, err
		}
		if size > maxDigested {
			return "", 0, fmt.Errorf("%s has more than %d bytes", d.path, maxDigested)
		}
	}
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return "", 0, err
	}
	if uint64(after.Ctim.Nano()) != d.version.changed {
		return "", 0, errOtherFile // written to meanwhile
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

func (d *digesting) open() (*os.File, error) {
	var failed error
	for _, path := range []string{"/proc/" + strconv.FormatUint(uint64(d.pid), 10) + "/exe", d.path} {
		f, err := os.Open(path)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		var stat unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &stat)
		// Overlays and btrfs have device numbers of their own for stat(2).
		if err == nil && (stat.Ino != d.version.inode || uint64(stat.Ctim.Nano()) != d.version.changed) {
			err = errOtherFile
		}
		if err == nil {
			return f, nil
		}
		failed = errors.Join(failed, err, f.Close())
	}
	return nil, failed
}

func (a *Agent) emitDigest(d digesting, sum string, size uint64) {
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(a.now),
		Body: &sallyportv1.Event_ExecutableDigest{ExecutableDigest: &sallyportv1.ExecutableDigest{
			Path: d.path, Inode: d.version.inode, Device: d.version.device, Size: size, Sha256: sum,
		}},
	}, d.process, d.process.at, "executable")
}
