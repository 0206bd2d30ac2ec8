package detector

import (
	"path"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Bounds of what of a command line makes two executions differ.
const (
	maxShapeArguments = 64
	maxShapeBytes     = 2048
)

// execution behaviour of a program that starts.
func (e *Engine) executes(p *sallyportv1.Process) sighting {
	return sighting{
		Behaviour: &sallyportv1.Behaviour{Kind: kindExec, Program: program(p), Target: pathPattern(strings.TrimSuffix(p.GetExecutable(), " (deleted)"))},
		shape:     e.shape(p),
	}
}

// shape is a command line without what varies from one execution to the next: numbers
// and hashes of all programs, and the names of files of programs that are run once for
// each file (list many_files). Options stay, and so does everything that policies look
// at: two command lines of one shape are judged by the first.
func (e *Engine) shape(p *sallyportv1.Process) string {
	var b strings.Builder
	for _, mark := range []struct {
		on   bool
		name string
	}{
		{p.GetExecutableInMemory(), "memory"}, {p.GetExecutableDeleted(), "deleted"},
		{p.GetStandardInput().GetKind() == sallyportv1.DescriptorKind_DESCRIPTOR_KIND_SOCKET, "stdin"},
		{p.GetStandardOutput().GetKind() == sallyportv1.DescriptorKind_DESCRIPTOR_KIND_SOCKET, "stdout"},
		{p.GetEffectiveUid() != p.GetUid(), "setuid"}, {p.GetUid() == 0, "root"},
	} {
		if mark.on {
			b.WriteString(mark.name)
			b.WriteByte(' ')
		}
	}
	b.WriteString(pathPattern(p.GetScript()))
	many := e.manyFiles[program(p)]
	last := ""
	for i, a := range p.GetArguments() {
		if i == 0 {
			continue
		}
		if i > maxShapeArguments || b.Len() > maxShapeBytes {
			break
		}
		w := pathPattern(a)
		if many {
			w = fileName(w)
			if w == last { // any number of files
				continue
			}
			last = w
		}
		b.WriteByte(0)
		b.WriteString(w)
	}
	return b.String()
}

// fileName generalises the name of a file in an argument, or in the value of an option.
func fileName(a string) string {
	if strings.HasPrefix(a, "-") {
		option, value, ok := strings.Cut(a, "=")
		if ok {
			return option + "=" + fileName(value)
		}
		if i := strings.IndexByte(a, '/'); i > 0 {
			return a[:min(i, 2)] + "*"
		}
		return a
	}
	for _, folder := range []string{"/etc/", "/root/", "/home/", "/proc/", "/sys/", "/run/", "/var/run/", "/dev/"} {
		if strings.HasPrefix(a, folder) {
			return a
		}
	}
	if extension := path.Ext(a); extension != "" && len(extension) <= 6 {
		return "*" + extension
	}
	return "*"
}

// pathPattern replaces what varies in a path, or any other word: digits by {n}, longer
// hexadecimal and the like by {hash}, and a user's home by ~.
func pathPattern(p string) string {
	if p == "" {
		return ""
	}
	p = homeless(p)
	if !strings.ContainsAny(p, "0123456789") {
		return p
	}
	var b strings.Builder
	b.Grow(len(p))
	for i := 0; i < len(p); {
		if !word(p[i]) {
			b.WriteByte(p[i])
			i++
			continue
		}
		j := i
		for j < len(p) && word(p[j]) {
			j++
		}
		wordPattern(&b, p[i:j])
		i = j
	}
	return b.String()
}

func word(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// wordPattern writes the pattern of letters and digits in a row.
func wordPattern(b *strings.Builder, w string) {
	digits, hex, letters := 0, true, 0
	for i := range len(w) {
		c := w[i]
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			letters++
		default:
			letters++
			hex = false
		}
	}
	if digits > 0 && letters > 0 && (hex && len(w) >= 8 || digits >= 3 && letters >= 3 && len(w) >= 10) {
		b.WriteString("{hash}")
		return
	}
	for i := 0; i < len(w); {
		if w[i] < '0' || w[i] > '9' {
			b.WriteByte(w[i])
			i++
			continue
		}
		j := i
		for j < len(w) && w[j] >= '0' && w[j] <= '9' {
			j++
		}
		if i > 0 && (j-i <= 2 || j < len(w) && j-i <= 4) { // x64, node20, sha256sum
			b.WriteString(w[i:j])
		} else {
			b.WriteString("{n}")
		}
		i = j
	}
}

// homeless replaces the home of a user.
func homeless(p string) string {
	for _, home := range []string{"/root/", "/github/home/"} {
		if rest, ok := strings.CutPrefix(p, home); ok {
			return "~/" + rest
		}
	}
	if rest, ok := strings.CutPrefix(p, "/home/"); ok {
		if _, below, ok := strings.Cut(rest, "/"); ok {
			return "~/" + below
		}
	}
	return p
}
