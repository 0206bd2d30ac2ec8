package rollout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stateKept is how long a stopped run can be gone on with: after that repositories have changed.
const stateKept = 24 * time.Hour

// State is a file of what came of each repository, a line each, that a run which was stopped goes
// on from. A nil State keeps nothing.
type State struct {
	file     *os.File
	outcomes map[string]Outcome
}

// header is the first line of a state: what it is the state of.
type header struct {
	Of    string    `json:"of"`
	Began time.Time `json:"began"`
}

// OpenState opens the file of a run, or makes it. What is in it counts if it is of the same run
// (of says what is done to what) and not older than a day; otherwise, and with anew, it is begun
// anew.
func OpenState(name, of string, anew bool, now time.Time) (*State, error) {
	s := &State{outcomes: make(map[string]Outcome)}
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read state: %w", err)
	}
	kept := s.read(data, of, now)
	if anew || kept == 0 {
		kept, s.outcomes = 0, make(map[string]Outcome)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("make state: %w", err)
	}
	if s.file, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	err = s.file.Truncate(kept) // and what was written by half
	if err == nil {
		_, err = s.file.Seek(kept, 0)
	}
	if err == nil && kept == 0 {
		err = s.line(header{of, now.UTC()})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write state: %w", err), s.file.Close())
	}
	return s, nil
}

// read reads what is in a file, and returns how many bytes of it are whole and of this run.
func (s *State) read(data []byte, of string, now time.Time) (kept int64) {
	for first := true; ; first = false {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return kept
		}
		if first {
			var h header
			if json.Unmarshal(line, &h) != nil || h.Of != of || now.Sub(h.Began) > stateKept {
				return 0
			}
		} else {
			var o Outcome
			if json.Unmarshal(line, &o) != nil || o.Repository == "" {
				return kept
			}
			s.outcomes[o.Repository] = o
		}
		kept += int64(len(line)) + 1
		data = rest
	}
}

func (s *State) line(v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = s.file.Write(append(data, '\n'))
	}
	return err
}

// Known is how many repositories are done.
func (s *State) Known() int {
	n := 0
	for name := range s.outcomes {
		if _, ok := s.known(name); ok {
			n++
		}
	}
	return n
}

// known returns what came of a repository; what failed, or waits, is tried again.
func (s *State) known(repository string) (Outcome, bool) {
	if s == nil {
		return Outcome{}, false
	}
	o, ok := s.outcomes[repository]
	return o, ok && o.Status != Failed && o.Status != Waiting
}

func (s *State) add(o Outcome) error {
	if s == nil {
		return nil
	}
	if err := s.line(o); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// Close ends the use of the file. It stays if the run was stopped, and goes if it has finished.
func (s *State) Close(finished bool) error {
	if s == nil {
		return nil
	}
	name := s.file.Name()
	err := s.file.Close()
	if finished {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}
