package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// allowlist is what block mode is to allow: the endpoints of a baseline as HOST:PORT, with
// *. for what varies, ordered; and those that have no such form.
func allowlist(b *sallyportv1.Baseline) (lines, without []string) {
	for _, x := range of(b, egress) {
		shown := fmt.Sprintf("%s:%d over %s", x.Target, x.Port, x.Protocol)
		host, ok := allowedHost(x.Target)
		switch {
		case x.Port == 0 || !ok:
			without = append(without, shown)
		case strings.Contains(host, ":"):
			lines = append(lines, fmt.Sprintf("[%s]:%d", host, x.Port))
		default:
			lines = append(lines, fmt.Sprintf("%s:%d", host, x.Port))
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines), without
}

// allowedHost is a target as allowlists write it. A pattern becomes a wildcard for its first
// labels: wider than the pattern, which is why it is only done where three labels stay.
func allowedHost(target string) (string, bool) {
	if _, err := netip.ParseAddr(target); err == nil {
		return target, true
	}
	labels := strings.Split(target, ".")
	last := -1
	for i, l := range labels {
		if strings.ContainsAny(l, "{}*") {
			last = i
		} else if l == "" || strings.ContainsFunc(l, func(r rune) bool {
			return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
		}) {
			return "", false
		}
	}
	if last < 0 {
		return target, true
	}
	if len(labels)-last-1 < 3 {
		return "", false
	}
	return "*." + strings.Join(labels[last+1:], "."), true
}
