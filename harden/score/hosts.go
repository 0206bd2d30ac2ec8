package score

import (
	"net/netip"
	"strings"
)

// githubHosts are those that the runner and its token reach for every job.
var githubHosts = []string{"github.com", "*.github.com", "*.githubusercontent.com", "*.actions.githubusercontent.com", "ghcr.io", "*.blob.core.windows.net"}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// expected says whether a host is GitHub's, or matches one of a list: HOST or *.HOST, with or
// without a port.
func expected(host string, list []string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, of := range [][]string{githubHosts, list} {
		for _, pattern := range of {
			pattern, _, _ = strings.Cut(strings.ToLower(pattern), ":")
			if parent, wild := strings.CutPrefix(pattern, "*."); host == pattern || wild && strings.HasSuffix(host, "."+parent) {
				return true
			}
		}
	}
	return false
}
