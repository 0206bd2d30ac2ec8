package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-ci/sallyport/identity"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
)

// Config is what a Server needs.
type Config struct {
	// Store that runs and findings are read from.
	Store *store.Store
	// Baselines that baselines are read from.
	Baselines Baselines
	// Teacher changes baselines by people's decisions.
	Teacher Teacher
	// Decisions that people make.
	Decisions Decisions
	// Verdicts that verdicts are read from.
	Verdicts Verdicts
	// Health asks every part; it must return at once.
	Health func() []*sallyportv1.PartHealth
	// Gate lets agents in; none if nil.
	Gate *identity.Gate
	// Token that every call needs but GetHealth and those by which agents get their
	// credentials. It must not be empty.
	Token string
	// Registerer of metrics; none if nil.
	Registerer prometheus.Registerer
	// Logger; the default one if nil.
	Logger *slog.Logger
}

// Server serves the API.
type Server struct {
	service *service
	gate    *gatekeeper
	callers *callers
	token   string
	calls   *prometheus.HistogramVec
	panics  prometheus.Counter
	log     *slog.Logger
}

// callTimeout bounds a call whatever its client asks for.
const callTimeout = 30 * time.Second

// maxRequest bounds a request's size in bytes: the largest holds a baseline.
const maxRequest = 4 << 20

// maxTokenless bounds the size of a REST request that needs no token, in bytes.
const maxTokenless = 64 << 10

// New returns a Server. An error means that the configuration cannot be used.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Baselines == nil || c.Teacher == nil || c.Decisions == nil || c.Verdicts == nil || c.Health == nil {
		return nil, errors.New("make server: store, baselines, teacher, decisions, verdicts and health are needed")
	}
	if c.Token == "" {
		return nil, errors.New("make server: the token is empty")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Server{
		service: &service{store: c.Store, baselines: c.Baselines, teacher: c.Teacher, decisions: c.Decisions, verdicts: c.Verdicts, health: c.Health, log: c.Logger},
		gate:    &gatekeeper{gate: c.Gate, log: c.Logger},
		callers: newCallers(),
		token:   c.Token,
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sallyport_api_call_seconds", Help: "Duration of calls of the API, by method and gRPC status.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 30},
		}, []string{"method", "code"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_api_panics_total", Help: "Calls of the API that ended in a panic, which is a bug.",
		}),
		log: c.Logger,
	}
	if c.Registerer != nil {
		for _, m := range []prometheus.Collector{s.calls, s.panics} {
			if err := c.Registerer.Register(m); err != nil {
				return nil, fmt.Errorf("register metrics of the server: %w", err)
			}
		}
	}
	return s, nil
}

// Serve answers gRPC on one listener and REST on another until ctx ends, lets
// calls under way finish, and closes both.
func (s *Server) Serve(ctx context.Context, rpc, rest net.Listener) error {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest), grpc.UnaryInterceptor(s.intercept), grpc.ConnectionTimeout(10*time.Second))
	sallyportv1.RegisterSallyportServiceServer(g, s.service)
	sallyportv1.RegisterIdentityServiceServer(g, s.gate)

	// The gateway is a client like any other, over memory: one place checks
	// tokens, counts calls and catches panics.
	memory := bufconn.Listen(1 << 20)
	client, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return memory.DialContext(ctx) }))
	if err != nil {
		return errors.Join(fmt.Errorf("connect gateway: %w", err), rpc.Close(), rest.Close())
	}
	handler, err := s.handler(ctx, client)
	if err != nil {
		return errors.Join(err, client.Close(), rpc.Close(), rest.Close())
	}
	h := &http.Server{
		Handler: loopbackHost(rest.Addr(), handler), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: callTimeout,
		WriteTimeout: callTimeout + 5*time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxRequest,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}

	ended := make(chan error, 3)
	for _, l := range []net.Listener{rpc, memory} {
		go func() {
			err := g.Serve(l)
			if errors.Is(err, grpc.ErrServerStopped) { // before it had begun
				err = nil
			}
			ended <- err
		}()
	}
	go func() {
		if err := h.Serve(rest); !errors.Is(err, http.ErrServerClosed) {
			ended <- err
			return
		}
		ended <- nil
	}()
	var failure error
	left := 3
	select {
	case <-ctx.Done():
	case failure = <-ended:
		left--
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := h.Shutdown(grace); err != nil {
		failure = errors.Join(failure, h.Close())
	}
	hard := context.AfterFunc(grace, g.Stop)
	g.GracefulStop()
	hard()
	for ; left > 0; left-- {
		failure = errors.Join(failure, <-ended)
	}
	if err := client.Close(); err != nil {
		failure = errors.Join(failure, err)
	}
	if failure != nil {
		return fmt.Errorf("serve API: %w", failure)
	}
	return nil
}

// handler is everything that REST answers.
func (s *Server) handler(ctx context.Context, client *grpc.ClientConn) (http.Handler, error) {
	gateway := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true},
			UnmarshalOptions: protojson.UnmarshalOptions{},
		}),
		// Only the token crosses; everything else in a request's headers is its own.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	if err := sallyportv1.RegisterSallyportServiceHandler(ctx, gateway, client); err != nil {
		return nil, fmt.Errorf("register gateway: %w", err)
	}
	if err := sallyportv1.RegisterIdentityServiceHandler(ctx, gateway, client); err != nil {
		return nil, fmt.Errorf("register gateway: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", http.MaxBytesHandler(gateway, maxRequest))
	for _, path := range []string{"/v1/identity:exchange", "/v1/identity:enrol", "/v1/identity:renew"} {
		mux.Handle(path, http.MaxBytesHandler(gateway, maxTokenless))
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(sallyportv1.OpenAPI) // a client that has gone hears nothing
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		answer, err := s.service.GetHealth(r.Context(), &sallyportv1.GetHealthRequest{})
		if err != nil || !answer.Healthy {
			http.Error(w, "a part does not work: see /v1/health", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	}), nil
}

// intercept bounds, authenticates, counts and, if need be, catches a call.
func (s *Server) intercept(ctx context.Context, q any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.panics.Inc()
			s.log.Error("call panicked", "method", info.FullMethod, "panic", p, "stack", string(debug.Stack()))
			answer, err = nil, status.Error(codes.Internal, "the call failed: see the server's log")
		}
		s.calls.WithLabelValues(info.FullMethod, strconv.Itoa(int(status.Code(err)))).Observe(time.Since(start).Seconds())
	}()
	switch {
	case info.FullMethod == sallyportv1.SallyportService_GetHealth_FullMethodName:
	case tokenless[info.FullMethod]:
		if err := s.callers.admit(callerAddress(ctx)); err != nil {
			return nil, err
		}
	default:
		if err := s.authenticate(ctx); err != nil {
			return nil, err
		}
	}
	return next(ctx, q)
}
