package server

import (
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
)

// Who asks is known by the connection; what a caller says of itself counts for nothing.
func TestCallerAddress(t *testing.T) {
	memory := bufconn.Listen(1).Addr()
	for _, c := range []struct {
		at        net.Addr
		forwarded []string
		want      string
	}{
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 7}, nil, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 7}, []string{"203.0.113.9"}, "192.0.2.1"}, // a gRPC client that lies
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 7}, nil, "2001:db8::1"},
		{memory, []string{"192.0.2.1"}, "192.0.2.1"},
		{memory, []string{"203.0.113.9, 192.0.2.1"}, "192.0.2.1"}, // a REST client that lies
		{memory, []string{"203.0.113.9", "8.8.8.8, 192.0.2.1"}, "192.0.2.1"},
		{memory, nil, ""},
		{memory, []string{"nonsense"}, ""},
	} {
		ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: c.at})
		if c.forwarded != nil {
			md := metadata.MD{}
			md.Append("x-forwarded-for", c.forwarded...)
			ctx = metadata.NewIncomingContext(ctx, md)
		}
		if got := callerAddress(ctx); got != c.want {
			t.Errorf("%v, %q: %q, want %q", c.at, c.forwarded, got, c.want)
		}
	}
}

func TestTooManyCalls(t *testing.T) {
	c := newCallers()
	let := func(address string) (n int) {
		for range 3 * callsAtOnce {
			if c.admit(address) == nil {
				n++
			}
		}
		return n
	}
	if n := let("192.0.2.1"); n < callsAtOnce || n > callsAtOnce+50 {
		t.Errorf("%d calls of one address are let in", n)
	}
	if n := let("192.0.2.2"); n < callsAtOnce {
		t.Errorf("another address has %d", n)
	}
	// Who has a whole network of IPv6 is one caller.
	if n := let("2001:db8::1") + let("2001:db8::2") + let("2001:db8::ffff:1"); n > callsAtOnce+50 {
		t.Errorf("%d calls of one network are let in", n)
	}
}

// The calls by which agents are let in are bounded over REST and gRPC together, and need no
// token; those about who is let in need one.
func TestWhoMayAskAboutIdentity(t *testing.T) {
	a := serveAPI(t, new(store.Store), shelf{}, nil) // nothing of what is stored is asked for
	client := sallyportv1.NewIdentityServiceClient(a.conn)
	for name, err := range map[string]error{
		"create": callOf(client.CreateEnrolmentKey(t.Context(), &sallyportv1.CreateEnrolmentKeyRequest{})),
		"list":   callOf(client.ListEnrolments(t.Context(), &sallyportv1.ListEnrolmentsRequest{})),
		"revoke": callOf(client.RevokeEnrolment(t.Context(), &sallyportv1.RevokeEnrolmentRequest{Id: "x"})),
		"refuse": callOf(client.ListRefusals(t.Context(), &sallyportv1.ListRefusalsRequest{})),
	} {
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s without a token: %v", name, err)
		}
	}
	// This server has no key to sign with.
	if err := callOf(client.ListRefusals(a.ctx, &sallyportv1.ListRefusalsRequest{})); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("with the token: %v", err)
	}
	var refused int
	for range callsAtOnce + 60 {
		if status.Code(callOf(client.ExchangeToken(t.Context(), &sallyportv1.ExchangeTokenRequest{}))) == codes.ResourceExhausted {
			refused++
		}
	}
	if refused == 0 {
		t.Error("calls without a token are not bounded")
	}
	if code, body := a.post(t, "/v1/identity:exchange", "", ""); code != 429 && code != 400 {
		t.Errorf("REST: %d %s", code, body)
	}
}

func callOf[T any](_ T, err error) error { return err }
