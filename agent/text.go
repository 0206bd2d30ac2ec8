package agent

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// text makes words from outside valid UTF-8: bytes that are none become \xNN.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// splitArguments splits arguments that each end with a zero byte; the last one may
// be cut off.
func splitArguments(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	arguments := make([]string, 0, bytes.Count(data, []byte{0})+1)
	for len(data) > 0 {
		var argument []byte
		argument, data, _ = bytes.Cut(data, []byte{0})
		arguments = append(arguments, text(string(argument)))
	}
	return arguments
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
