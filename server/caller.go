package server

import (
	"context"
	"net/netip"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// How often an address may ask without a token: behind one there may be a hundred runners
// whose jobs start at once.
const (
	callsPerSecond = 5
	callsAtOnce    = 100
	// maxCallers bounds how many addresses are remembered; the ones that were silent for
	// longest are forgotten.
	maxCallers = 16_384
)

// callers bounds how often each address may ask without a token. It is safe for
// concurrent use.
type callers struct {
	seen *lru.Cache[string, *rate.Limiter]
}

func newCallers() *callers {
	seen, err := lru.New[string, *rate.Limiter](maxCallers)
	if err != nil { // the size is right
		panic(err)
	}
	return &callers{seen}
}

// admit counts a call, and fails if there were too many.
func (c *callers) admit(address string) error {
	limiter := rate.NewLimiter(callsPerSecond, callsAtOnce)
	if before, there, _ := c.seen.PeekOrAdd(network(address), limiter); there {
		limiter = before
	}
	c.seen.Get(network(address)) // it is used, so that it is kept
	if !limiter.Allow() {
		return status.Error(codes.ResourceExhausted, "too many calls from this address; try again in some seconds")
	}
	return nil
}

// network is what one caller has: an IPv4 address, or the 64 bits of an IPv6 network.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	if ip = ip.Unmap(); ip.Is6() {
		prefix, err := ip.WithZone("").Prefix(64)
		if err != nil { // 64 is right
			return ""
		}
		return prefix.String()
	}
	return ip.String()
}

// gatewayNetwork is that of the connection over which the REST gateway asks.
const gatewayNetwork = "bufconn"

// callerAddress returns the address that a call comes from, without its port; empty if
// that is not known. What a caller says of itself does not count: only the gateway is
// believed, which adds the address of its own caller at the end.
func callerAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	if p.Addr.Network() != gatewayNetwork {
		at, err := netip.ParseAddrPort(p.Addr.String())
		if err != nil {
			return ""
		}
		return at.Addr().Unmap().String()
	}
	forwarded := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for")
	if len(forwarded) == 0 {
		return ""
	}
	all := strings.Split(forwarded[len(forwarded)-1], ",")
	ip, err := netip.ParseAddr(strings.TrimSpace(all[len(all)-1]))
	if err != nil {
		return ""
	}
	return ip.Unmap().String()
}
