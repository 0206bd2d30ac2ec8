package detector

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/sallyport-ci/sallyport/policies"
)

// Kinds of address, as policies see them in behaviour.address_scope.
const (
	scopeLoopback  = "loopback"
	scopeLinkLocal = "link-local"
	scopePrivate   = "private"
	scopeMetadata  = "metadata"
	scopePublic    = "public"
)

// dnsPort is where resolvers answer.
const dnsPort = 53

// scopes tells what kind of address an address is.
type scopes struct {
	metadata map[netip.Addr]bool
	private  []netip.Prefix
}

func newScopes() (*scopes, error) {
	const name = "data/metadata_addresses.json"
	data, err := policies.FS.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read list %s: %w", name, err)
	}
	var list struct {
		Addresses []netip.Addr `json:"addresses"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read list %s: %w", name, err)
	}
	s := &scopes{metadata: make(map[netip.Addr]bool), private: []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // shared address space, RFC 6598
	}}
	for _, a := range list.Addresses {
		s.metadata[a] = true
	}
	return s, nil
}

func (s *scopes) of(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	switch {
	case s.metadata[a]:
		return scopeMetadata
	case a.IsLoopback(), a.IsUnspecified(): // Linux connects 0.0.0.0 to itself
		return scopeLoopback
	case a.IsLinkLocalUnicast(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return scopeLinkLocal
	case a.IsPrivate():
		return scopePrivate
	}
	for _, p := range s.private {
		if p.Contains(a) {
			return scopePrivate
		}
	}
	return scopePublic
}

// lookUp says whether a flow carries questions to the machine's own resolver:
// port 53 on any address that is not public. A public resolver is an endpoint
// like any other, since questions to it can carry secrets past the machine's.
func lookUp(scope string, port uint32) bool { return port == dnsPort && scope != scopePublic }
