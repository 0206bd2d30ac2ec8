package score

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Seen are destinations that agents saw, by action in lower case and reference.
type Seen map[string]map[string][]string

// maxLine bounds a line of what was seen, in bytes.
const maxLine = 1 << 20

// ReadSeen reads JSON lines, one for each destination of an action: action (OWNER/REPO[/PATH]@REF)
// and domain, or address where no name was looked up; a line without either says that the
// action ran.
func ReadSeen(in io.Reader) (Seen, error) {
	out := make(Seen)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var line struct{ Action, Domain, Address string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("read what was seen: line %d: %w", n, err)
		}
		name, ref, ok := strings.Cut(line.Action, "@")
		if !ok || name == "" || ref == "" {
			return nil, fmt.Errorf("read what was seen: line %d: action %q is not OWNER/REPO@REF", n, line.Action)
		}
		name = strings.ToLower(name)
		if out[name] == nil {
			out[name] = make(map[string][]string)
		}
		hosts := out[name][ref]
		if to := strings.ToLower(strings.TrimSuffix(line.Domain, ".")); to != "" {
			hosts = append(hosts, to)
		} else if line.Address != "" {
			hosts = append(hosts, strings.TrimPrefix(line.Address, "::ffff:"))
		}
		slices.Sort(hosts)
		out[name][ref] = slices.Compact(hosts)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read what was seen: %w", err)
	}
	return out, nil
}

var errNotSeen = errors.New("nobody has seen it run: give what agents saw (--seen)")

// of returns what an action contacted at a reference or a commit.
func (s Seen) of(action, ref, commit string) ([]string, error) {
	refs := s[strings.ToLower(action)]
	var out []string
	ran := false
	for _, at := range []string{ref, commit} {
		if hosts, ok := refs[at]; ok {
			out, ran = append(out, hosts...), true
		}
	}
	switch {
	case ran:
		slices.Sort(out)
		return slices.Compact(out), nil
	case len(refs) > 0:
		return nil, errors.New("it was seen to run at other versions alone")
	}
	return nil, errNotSeen
}
