package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// MaxPlaintext is how many bytes of what is encrypted at once a record carries.
const MaxPlaintext = 2048

// Plaintext is the beginning of what a process of a step has had encrypted by a function
// that WatchTLS watches, on a connection that began like HTTP.
type Plaintext struct {
	Header
	// Connection is the same for all that is written to one connection of a process.
	Connection uint64
	// Library is what WatchTLS was given.
	Library uint64
	// Size is how much was written; Data holds the first MaxPlaintext bytes of it.
	Size uint64
	// Begins is true if it begins as a request of HTTP/1 does, or a connection of HTTP/2.
	Begins bool
	// Data holds the beginning.
	Data []byte
}

// Convention is how a function takes its arguments.
type Convention int

// Conventions.
const (
	// ConventionC is that of C: connection, address and size are the first three.
	ConventionC Convention = iota
	// ConventionGo is that of Go 1.17 and later: receiver and slice.
	ConventionGo
)

// WatchTLS watches a function that encrypts, in all processes that run the file at path
// or have it mapped, now or later: at offset bytes in the file. Close of the result
// ends it; so does that of the sensor, after which the error is os.ErrClosed. It is safe
// for concurrent use.
func (s *Sensor) WatchTLS(path string, offset uint64, convention Convention, library uint64) (io.Closer, error) {
	s.attaching.RLock()
	defer s.attaching.RUnlock()
	if s.closing.Load() {
		return nil, fmt.Errorf("watch TLS: %w", os.ErrClosed)
	}
	executable, err := link.OpenExecutable(path)
	if err != nil {
		return nil, fmt.Errorf("watch TLS: %w", err)
	}
	options := &link.UprobeOptions{Address: offset, Cookie: library}
	var taps taps
	attach := func(program *ebpf.Program, at func(string, *ebpf.Program, *link.UprobeOptions) (link.Link, error)) error {
		l, err := at("", program, options)
		if err != nil {
			return errors.Join(fmt.Errorf("watch TLS: %w", &os.PathError{Op: "uprobe", Path: path, Err: err}), taps.Close())
		}
		taps = append(taps, l)
		return nil
	}
	if convention == ConventionGo {
		// A probe at its end would break a stack that Go moves.
		err = attach(s.objects.GoTlsWrite, executable.Uprobe)
		return taps, err
	}
	if err := attach(s.objects.TlsWritten, executable.Uretprobe); err != nil {
		return nil, err
	}
	err = attach(s.objects.TlsWrite, executable.Uprobe)
	return taps, err
}

// taps are the probes of one function.
type taps []link.Link

// Close detaches them.
func (t taps) Close() error {
	var errs []error
	for _, l := range t {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// IgnoreTLS ends the records of a connection, until it begins anew.
func (s *Sensor) IgnoreTLS(process, connection uint64) error {
	const ignored = uint32(2)
	key := struct{ Process, Connection uint64 }{process, connection}
	if err := s.objects.EncryptedConnections.Update(key, ignored, ebpf.UpdateExist); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("ignore connection: %w", err)
	}
	return nil
}

// Adopt makes a running program (by its identity and process number in the first PID
// namespace) a part of a step: what it and its later children do to files, and what
// they have encrypted, is reported from now on. It says false if the program is not
// running any more.
func (s *Sensor) Adopt(process uint64, pid uint32) (bool, error) {
	context := struct {
		ID       uint64
		PID      uint32
		Reserved uint32
	}{ID: process, PID: pid}
	missing, err := s.objects.Adopt.Run(&ebpf.RunOptions{Context: context})
	if err != nil {
		return false, fmt.Errorf("adopt process %d: %w", pid, err)
	}
	return missing == 0, nil
}
