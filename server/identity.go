package server

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-ci/sallyport/identity"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// gatekeeper implements the calls about identity.
type gatekeeper struct {
	sallyportv1.UnimplementedIdentityServiceServer
	gate *identity.Gate // nil if nobody is let in
	log  *slog.Logger
}

// tokenless are the calls that need no token: whoever asks shows something else.
var tokenless = map[string]bool{
	sallyportv1.IdentityService_ExchangeToken_FullMethodName:   true,
	sallyportv1.IdentityService_EnrolAgent_FullMethodName:      true,
	sallyportv1.IdentityService_RenewCredential_FullMethodName: true,
}

// ready fails if there is no gate.
func (s *gatekeeper) ready() error {
	if s.gate == nil {
		return status.Error(codes.FailedPrecondition, "this server lets no agents in: it has no key to sign credentials with (docs/identity.md)")
	}
	return nil
}

// refused turns an error of the gate into what a caller should hear.
func (s *gatekeeper) refused(ctx context.Context, err error) error {
	var refused *identity.RefusedError
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.As(err, &refused) && (refused.Reason == identity.ReasonRepository || refused.Reason == identity.ReasonName):
		return status.Error(codes.PermissionDenied, refused.Error())
	case errors.As(err, &refused):
		return status.Error(codes.Unauthenticated, refused.Error())
	case errors.Is(err, identity.ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, identity.ErrNotOffered):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, identity.ErrNotEnrolled):
		return status.Error(codes.NotFound, "there is no such enrolment key or agent")
	case errors.Is(err, identity.ErrUnavailable):
		s.log.Warn("identity cannot be checked", "error", err)
		return status.Error(codes.Unavailable, "identity cannot be checked now: see the server's log")
	default:
		s.log.Error("identity cannot be checked", "error", err)
		return status.Error(codes.Internal, "identity cannot be checked: see the server's log")
	}
}

func (s *gatekeeper) ExchangeToken(ctx context.Context, q *sallyportv1.ExchangeTokenRequest) (*sallyportv1.ExchangeTokenResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	credential, err := s.gate.Exchange(ctx, q.Token, q.Nkey, callerAddress(ctx))
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	return &sallyportv1.ExchangeTokenResponse{Credential: credential}, nil
}

func (s *gatekeeper) EnrolAgent(ctx context.Context, q *sallyportv1.EnrolAgentRequest) (*sallyportv1.EnrolAgentResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	credential, err := s.gate.Enrol(ctx, q.Key, q.Name, q.Nkey, callerAddress(ctx))
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	return &sallyportv1.EnrolAgentResponse{Credential: credential}, nil
}

func (s *gatekeeper) RenewCredential(ctx context.Context, q *sallyportv1.RenewCredentialRequest) (*sallyportv1.RenewCredentialResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	credential, err := s.gate.Renew(ctx, q.AgentId, q.Time.AsTime(), q.Signature, callerAddress(ctx))
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	return &sallyportv1.RenewCredentialResponse{Credential: credential}, nil
}

func (s *gatekeeper) CreateEnrolmentKey(ctx context.Context, q *sallyportv1.CreateEnrolmentKeyRequest) (*sallyportv1.CreateEnrolmentKeyResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	key, kept, err := s.gate.CreateKey(ctx, q)
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	return &sallyportv1.CreateEnrolmentKeyResponse{Key: key, Enrolment: kept}, nil
}

func (s *gatekeeper) ListEnrolments(ctx context.Context, _ *sallyportv1.ListEnrolmentsRequest) (*sallyportv1.ListEnrolmentsResponse, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	keys, agents, err := s.gate.Enrolments(ctx)
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	return &sallyportv1.ListEnrolmentsResponse{Keys: keys, Agents: agents}, nil
}

func (s *gatekeeper) RevokeEnrolment(ctx context.Context, q *sallyportv1.RevokeEnrolmentRequest) (*sallyportv1.RevokeEnrolmentResponse, error) {
	if err := first(s.ready(), name("id", q.Id, true)); err != nil {
		return nil, err
	}
	agents, err := s.gate.Revoke(ctx, q.Id)
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	return &sallyportv1.RevokeEnrolmentResponse{AgentIds: agents}, nil
}

func (s *gatekeeper) ListRefusals(ctx context.Context, q *sallyportv1.ListRefusalsRequest) (*sallyportv1.ListRefusalsResponse, error) {
	size, err := pageSize(q.PageSize)
	if err = first(s.ready(), err); err != nil {
		return nil, err
	}
	refusals, err := s.gate.Refusals(ctx, size)
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	return &sallyportv1.ListRefusalsResponse{Refusals: refusals}, nil
}
