package install

import "bytes"

// The file `.env` of a runner is read by its listener with .NET's File.ReadAllLines:
// lines end with \n, \r or \r\n, a byte order mark counts for nothing, a name ends at
// the first =, there are no quotes and no comments, and the last line of a name counts;
// an empty value takes the variable away (src/Runner.Listener/Program.cs, LoadAndSetEnv).

// line is a line within a file: its text without the end of line, and where it ends.
type line struct{ begin, end, next int }

// lines splits as .NET does.
func lines(data []byte) (all []line) {
	at := 0
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		at = 3
	}
	for at < len(data) {
		l := line{begin: at, end: len(data), next: len(data)}
		if n := bytes.IndexAny(data[at:], "\r\n"); n >= 0 {
			l.end, l.next = at+n, at+n+1
			if data[l.end] == '\r' && l.next < len(data) && data[l.next] == '\n' {
				l.next++
			}
		}
		all = append(all, l)
		at = l.next
	}
	return all
}

// find returns the line that sets a variable, the last one, and where its value begins.
func find(data []byte, name string) (l line, value int, ok bool) {
	for _, candidate := range lines(data) {
		if bytes.HasPrefix(data[candidate.begin:candidate.end], []byte(name+"=")) {
			l, value, ok = candidate, candidate.begin+len(name)+1, true
		}
	}
	return l, value, ok
}

// valueOf returns what a variable is set to, "" if it is not.
func valueOf(data []byte, name string) string {
	if l, value, ok := find(data, name); ok {
		return string(data[value:l.end])
	}
	return ""
}

// Edit is what was changed of a variable, so that it can be taken back.
type Edit struct {
	Name string `json:"name"`
	// Ours is the value that was set.
	Ours string `json:"ours"`
	// Before is the value that was there, if Replaced.
	Before   string `json:"before,omitempty"`
	Replaced bool   `json:"replaced,omitempty"`
	// EndedLine is true if the file's last line got its end first.
	EndedLine bool `json:"ended_line,omitempty"`
}

// set sets a variable to a value that no line end is in. All other bytes stay.
func set(data []byte, name, value string) ([]byte, Edit) {
	e := Edit{Name: name, Ours: value}
	if l, at, ok := find(data, name); ok {
		e.Replaced, e.Before = true, string(data[at:l.end])
		return splice(data, at, l.end, value), e
	}
	text := name + "=" + value + "\n"
	if all := lines(data); len(all) > 0 && all[len(all)-1].end == len(data) {
		e.EndedLine = true
		text = "\n" + text
	}
	return splice(data, len(data), len(data), text), e
}

// unset takes an edit back. It says false, and changes nothing, if the variable has
// another value by now: somebody else's.
func unset(data []byte, e Edit) ([]byte, bool) {
	l, at, ok := find(data, e.Name)
	if !ok || string(data[at:l.end]) != e.Ours {
		return data, false
	}
	if e.Replaced {
		return splice(data, at, l.end, e.Before), true
	}
	begin := l.begin
	if e.EndedLine && l.next == len(data) && begin > 0 && data[begin-1] == '\n' {
		begin--
	}
	return splice(data, begin, l.next, ""), true
}

func splice(data []byte, from, to int, text string) []byte {
	out := make([]byte, 0, len(data)-(to-from)+len(text))
	out = append(out, data[:from]...)
	out = append(out, text...)
	return append(out, data[to:]...)
}
