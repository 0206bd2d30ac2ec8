package main

import (
	"net"
	"strings"
	"testing"
)

// Where something else listens is said with the flag that chooses another address, also for
// what listens by itself.
func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := &options{data: t.TempDir(), nats: l.Addr().String(), clickhouse: l.Addr().String()}
	s := &stack{o: o}
	for flag, start := range map[string]step{"nats": s.startNATS, "clickhouse": s.startEngine} {
		err := start(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "--"+flag+": ") || !strings.Contains(err.Error(), "choose another address") {
			t.Errorf("--%s: %v", flag, err)
		}
	}
}
