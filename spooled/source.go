package spooled

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport-ci/sallyport/stream"
)

// Bounds of what is read.
const (
	// MaxFileBytes bounds a packed batch: no NATS of ours takes a larger message.
	MaxFileBytes = 8 << 20
	// MaxZipBytes bounds a zip file, of which all names are held in memory. The action puts half of
	// that into an artifact.
	MaxZipBytes = 128 << 20
	// MaxFiles bounds how many files are looked at.
	MaxFiles = 1 << 20
)

// ErrForeign is wrapped by the refusal of a file that is none from a spool.
var ErrForeign = errors.New("it is no batch from a spool")

// ErrTooLarge is wrapped by the refusal of what is larger than an agent makes it.
var ErrTooLarge = errors.New("it is too large")

// place is where a batch is.
type place struct {
	path  string // of a file
	entry int    // in the zip file at path; -1 if the file is the batch itself
	name  stream.SpoolName
	shown string
}

// find calls each for the batches below a path, and refuse for everything else there.
func find(path string, each func(place) error, refuse func(shown string, err error) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look for batches: %w", err)
	}
	if !info.IsDir() {
		return findFile(path, info, true, each, refuse)
	}
	// With a slash behind it the folder itself may be a link.
	return filepath.WalkDir(path+string(filepath.Separator), func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("look for batches: %w", err)
		case d.IsDir():
			return nil
		case !d.Type().IsRegular(): // no link is followed to where nobody pointed
			return refuse(p, fmt.Errorf("%w: it is no regular file", ErrForeign))
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("look for batches: %w", err)
		}
		return findFile(p, info, false, each, refuse)
	})
}

// findFile looks at one file. One that somebody named may be a zip file under any name.
func findFile(path string, info fs.FileInfo, named bool, each func(place) error, refuse func(shown string, err error) error) error {
	name, ok := stream.ParseSpoolName(filepath.Base(path))
	switch {
	case ok && !info.Mode().IsRegular():
		return refuse(path, fmt.Errorf("%w: it is no regular file", ErrForeign))
	case ok:
		return each(place{path: path, entry: -1, name: name, shown: path})
	case !named && !strings.HasSuffix(strings.ToLower(path), ".zip"):
		return refuse(path, fmt.Errorf("%w: neither is its name that of one, nor is it a zip file", ErrForeign))
	}
	z, err := openZip(path)
	if err != nil {
		return refuse(path, err)
	}
	defer func() { _ = z.Close() }() // it was only read
	for i, f := range z.File {
		shown := fmt.Sprintf("%s: %.120q", path, f.Name)
		// A plain name: no folder, no way out of one. Nothing is ever unpacked to a disk.
		name, ok := stream.ParseSpoolName(f.Name)
		if !ok || !f.Mode().IsRegular() {
			err = refuse(shown, fmt.Errorf("%w: its name is not that of one", ErrForeign))
		} else {
			err = each(place{path: path, entry: i, name: name, shown: shown})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openZip opens a zip file of bounded size.
func openZip(path string) (*zip.ReadCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open zip file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", ErrForeign)
	}
	if info.Size() > MaxZipBytes {
		return nil, fmt.Errorf("%w: %d bytes, where artifacts have %d at most", ErrTooLarge, info.Size(), MaxZipBytes)
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("%w: open zip file: %w", ErrForeign, err)
	}
	return z, nil
}

// opener reads what is at places. It keeps the last zip file open.
type opener struct {
	path string
	zip  *zip.ReadCloser
}

func (o *opener) close() {
	if o.zip != nil {
		_ = o.zip.Close() // it was only read
	}
	o.zip = nil
}

// read returns the packed batch.
func (o *opener) read(p place) (data []byte, err error) {
	var r io.ReadCloser
	if p.entry < 0 {
		r, err = os.Open(p.path)
	} else {
		r, err = o.entry(p)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	data, err = io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%w: a batch has %d bytes at most", ErrTooLarge, MaxFileBytes)
	}
	return data, nil
}

func (o *opener) entry(p place) (io.ReadCloser, error) {
	if o.zip == nil || o.path != p.path {
		o.close()
		z, err := openZip(p.path)
		if err != nil {
			return nil, err
		}
		o.path, o.zip = p.path, z
	}
	if p.entry >= len(o.zip.File) {
		return nil, fmt.Errorf("%w: the zip file became another one", ErrForeign)
	}
	r, err := o.zip.File[p.entry].Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return r, nil
}
