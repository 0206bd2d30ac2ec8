package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

const token = "right"

// shelf holds baselines in memory, ordered.
type shelf []*sallyportv1.Baseline

// nobody decides anything.
type nobody struct {
	Teacher
	Verdicts
}

func (nobody) Record(context.Context, *sallyportv1.Decision, time.Time) error { return nil }

func (nobody) List(context.Context) ([]*sallyportv1.Decision, error) { return nil, nil }

func (s shelf) List(context.Context) ([]*sallyportv1.Baseline, error) { return s, nil }

func (s shelf) Get(_ context.Context, repository, workflow, job string) (*sallyportv1.Baseline, error) {
	for _, b := range s {
		if b.Repository == repository && b.Workflow == workflow && b.Job == job {
			return b, nil
		}
	}
	return nil, detector.ErrNoBaseline
}

// api is a running server and a client of it.
type api struct {
	sallyportv1.SallyportServiceClient
	ctx  context.Context // with the token
	rest string
	conn *grpc.ClientConn
}

func serveAPI(t *testing.T, s *store.Store, baselines Baselines, health func() []*sallyportv1.PartHealth) *api {
	t.Helper()
	if health == nil {
		health = func() []*sallyportv1.PartHealth { return []*sallyportv1.PartHealth{{Name: "nats", Healthy: true}} }
	}
	srv, err := New(Config{Store: s, Baselines: baselines, Teacher: nobody{}, Decisions: nobody{}, Verdicts: nobody{}, Health: health, Token: token, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, listeners[0], listeners[1]) }()
	conn, err := grpc.NewClient(listeners[0].Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &api{
		sallyportv1.NewSallyportServiceClient(conn), metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token),
		"http://" + listeners[1].Addr().String(), conn,
	}
}

// What is told to stop before it has begun to serve has not failed.
func TestStoppedAtOnce(t *testing.T) {
	srv, err := New(Config{
		Store: new(store.Store), Baselines: shelf{}, Teacher: nobody{}, Decisions: nobody{}, Verdicts: nobody{}, Token: token,
		Health: func() []*sallyportv1.PartHealth { return nil }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		var listeners [2]net.Listener
		for i := range listeners {
			if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
		}
		if err := srv.Serve(ctx, listeners[0], listeners[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// recorded is a store with 40 runs of acme/shop, many of them at the same time,
// one of them with processes and flows, and 25 findings.
func recorded(t *testing.T) *store.Store {
	t.Helper()
	e := enginetest.Start(t)
	name, conn := e.Database(t)
	s, err := store.Open(t.Context(), e.DatabaseDSN(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	const at = "toDateTime64('2026-11-01 10:00:00', 9, 'UTC')"
	for _, statement := range []string{
		`INSERT INTO job_events (agent_id, time, repository, workflow, run_id, run_attempt, job, execution_id, commit, actor, kind)
			SELECT 'a', ` + at + ` + intDiv(number, 8), 'acme/shop', 'CI', toString(number), 1, 'build', 'e' || toString(number), 'c0ffee', 'alice', 'started' FROM numbers(40)`,
		`INSERT INTO job_events (agent_id, time, repository, workflow, run_id, run_attempt, job, execution_id, kind, reason)
			VALUES ('a', ` + at + ` + 9, 'acme/shop', 'CI', '7', 1, 'build', 'e7', 'ended', 'worker_exited')`,
		`INSERT INTO process_events (agent_id, time, start_time, repository, workflow, run_id, run_attempt, job, execution_id, step, process_id, program, executable, arguments, kind)
			SELECT 'a', ` + at + `, ` + at + `, 'acme/shop', 'CI', '7', 1, 'build', 'e7', 'install', number + 1, 'curl', '/usr/bin/curl', ['curl', toString(number)], 'executed' FROM numbers(30)`,
		`INSERT INTO flow_events (agent_id, time, start_time, repository, workflow, run_id, run_attempt, job, execution_id, step, flow_id, program, phase, protocol, destination_address, destination_port, domain, bytes_sent)
			SELECT 'a', ` + at + `, ` + at + `, 'acme/shop', 'CI', '7', 1, 'build', 'e7', 'install', number + 1, 'curl', 'started', 'tcp', toIPv6('192.0.2.1'), 443,
				if(number = 20, '', 'h' || toString(number % 20) || '.example.test'), intDiv(number, 4) FROM numbers(21)`,
		`INSERT INTO findings (id, time, repository, workflow, run_attempt, run_id, policy, severity, finding)
			SELECT 'f' || toString(number), ` + at + ` + intDiv(number, 5), 'acme/shop', 'CI', 1, '7', 'p', if(number % 5 = 0, 'critical', 'low'),
				'{"id":"f' || toString(number) || '","message":"m","from_the_future":1}' FROM numbers(25)`,
	} {
		if err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%v\n%s", err, statement)
		}
	}
	return s
}

// walk collects what all pages of a list hold and fails if a page is too long.
func walk(t *testing.T, size int32, page func(token string) (names []string, next string, err error)) []string {
	t.Helper()
	var all []string
	token := ""
	for range 1000 {
		names, next, err := page(token)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) > int(size) {
			t.Fatalf("a page of %d, asked for %d", len(names), size)
		}
		all = append(all, names...)
		if token = next; token == "" {
			return all
		}
	}
	t.Fatal("the list does not end")
	return nil
}

func TestListsPageByPage(t *testing.T) {
	b := shelf{}
	for i := range 9 {
		b = append(b, &sallyportv1.Baseline{Repository: "acme/shop", Workflow: "CI", Job: fmt.Sprint("job", i)})
	}
	a := serveAPI(t, recorded(t), b, nil)
	lists := map[string]func(size int32, token string) ([]string, string, error){
		"runs": func(size int32, token string) (names []string, next string, err error) {
			r, err := a.ListRuns(a.ctx, &sallyportv1.ListRunsRequest{Repository: "acme/shop", PageSize: size, PageToken: token})
			for _, v := range r.GetRuns() {
				names = append(names, v.RunId)
			}
			return names, r.GetNextPageToken(), err
		},
		"processes": func(size int32, token string) (names []string, next string, err error) {
			r, err := a.ListProcesses(a.ctx, &sallyportv1.ListProcessesRequest{Repository: "acme/shop", RunId: "7", PageSize: size, PageToken: token})
			for _, v := range r.GetProcesses() {
				names = append(names, fmt.Sprint(v.Process.Id))
			}
			return names, r.GetNextPageToken(), err
		},
		"destinations": func(size int32, token string) (names []string, next string, err error) {
			r, err := a.ListDestinations(a.ctx, &sallyportv1.ListDestinationsRequest{Repository: "acme/shop", RunId: "7", PageSize: size, PageToken: token})
			for _, v := range r.GetDestinations() {
				names = append(names, fmt.Sprint(v.BytesSent, " ", v.Domain, v.Addresses))
			}
			return names, r.GetNextPageToken(), err
		},
		"findings": func(size int32, token string) (names []string, next string, err error) {
			r, err := a.ListFindings(a.ctx, &sallyportv1.ListFindingsRequest{PageSize: size, PageToken: token})
			for _, v := range r.GetFindings() {
				names = append(names, v.Id)
			}
			return names, r.GetNextPageToken(), err
		},
		"baselines": func(size int32, token string) (names []string, next string, err error) {
			r, err := a.ListBaselines(a.ctx, &sallyportv1.ListBaselinesRequest{PageSize: size, PageToken: token})
			for _, v := range r.GetBaselines() {
				names = append(names, v.Job)
			}
			return names, r.GetNextPageToken(), err
		},
	}
	for name, want := range map[string]int{"runs": 40, "processes": 30, "destinations": 21, "findings": 25, "baselines": 9} {
		whole := walk(t, 1000, func(token string) ([]string, string, error) { return lists[name](1000, token) })
		if len(whole) != want {
			t.Errorf("%s: %d, want %d", name, len(whole), want)
		}
		for _, size := range []int32{1, 3, 7, int32(want)} {
			if got := walk(t, size, func(token string) ([]string, string, error) { return lists[name](size, token) }); !slices.Equal(got, whole) {
				t.Errorf("%s in pages of %d:\n%q, want\n%q", name, size, got, whole)
			}
		}
		for other := range lists {
			_, foreign, err := lists[name](1, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := lists[other](1, foreign); other != name && status.Code(err) != codes.InvalidArgument {
				t.Errorf("a token of %s for %s: %v", name, other, err)
			}
		}
	}
}

func TestOneRunAndOneFinding(t *testing.T) {
	a := serveAPI(t, recorded(t), shelf{}, nil)
	r, err := a.GetRun(a.ctx, &sallyportv1.GetRunRequest{Repository: "acme/shop", RunId: "7"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Run.Commit != "c0ffee" || r.Run.Actor != "alice" || r.Run.Findings != 25 || r.Run.EndedAt == nil ||
		len(r.Jobs) != 1 || len(r.Jobs[0].Steps) != 1 || r.Jobs[0].Steps[0].Processes != 30 || r.Jobs[0].Steps[0].Flows != 21 {
		t.Errorf("run %v", r)
	}
	f, err := a.ListFindings(a.ctx, &sallyportv1.ListFindingsRequest{RunId: "7", MinimumSeverity: sallyportv1.Severity_SEVERITY_HIGH})
	if err != nil || len(f.Findings) != 5 {
		t.Errorf("severe findings: %v, %v", f, err)
	}
	if g, err := a.GetFinding(a.ctx, &sallyportv1.GetFindingRequest{Id: "f3"}); err != nil || g.Finding.Id != "f3" {
		t.Errorf("finding: %v, %v", g, err)
	}
}

func TestErrorsAreOnesThatClientsCanActOn(t *testing.T) {
	a := serveAPI(t, recorded(t), shelf{}, nil)
	_, err := a.ListRuns(t.Context(), &sallyportv1.ListRunsRequest{})
	expectCode(t, "no token", err, codes.Unauthenticated)
	_, err = a.ListRuns(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer wrong"), &sallyportv1.ListRunsRequest{})
	expectCode(t, "wrong token", err, codes.Unauthenticated)
	_, err = a.GetRun(a.ctx, &sallyportv1.GetRunRequest{Repository: "acme/shop", RunId: "4711"})
	expectCode(t, "no such run", err, codes.NotFound)
	_, err = a.GetRun(a.ctx, &sallyportv1.GetRunRequest{Repository: "acme", RunId: "7"})
	expectCode(t, "half a repository", err, codes.InvalidArgument)
	_, err = a.GetFinding(a.ctx, &sallyportv1.GetFindingRequest{Id: "nope' OR 1 = 1"})
	expectCode(t, "no such finding", err, codes.NotFound)
	_, err = a.GetBaseline(a.ctx, &sallyportv1.GetBaselineRequest{Repository: "acme/shop", Workflow: "CI", Job: "x"})
	expectCode(t, "no baseline", err, codes.NotFound)
	_, err = a.ListRuns(a.ctx, &sallyportv1.ListRunsRequest{PageSize: 1001})
	expectCode(t, "page too long", err, codes.InvalidArgument)
	_, err = a.ListFindings(a.ctx, &sallyportv1.ListFindingsRequest{MinimumSeverity: 99})
	expectCode(t, "no such severity", err, codes.InvalidArgument)

	// A ClickHouse that is not there.
	gone, err := store.Open(t.Context(), "http://127.0.0.1:1/sallyport")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	b := serveAPI(t, gone, shelf{}, nil)
	_, err = b.ListRuns(b.ctx, &sallyportv1.ListRunsRequest{})
	expectCode(t, "no ClickHouse", err, codes.Unavailable)
}

func expectCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

func (a *api) get(t *testing.T, path, bearer, host string) (int, string) {
	t.Helper()
	return a.ask(t, http.MethodGet, path, bearer, host)
}

func (a *api) post(t *testing.T, path, bearer, host string) (int, string) {
	t.Helper()
	return a.ask(t, http.MethodPost, path, bearer, host)
}

func (a *api) ask(t *testing.T, method, path, bearer, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.rest+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestREST(t *testing.T) {
	healthy := true
	a := serveAPI(t, recorded(t), shelf{{Repository: "acme/shop", Workflow: "C I", Job: "build"}}, func() []*sallyportv1.PartHealth {
		return []*sallyportv1.PartHealth{{Name: "nats", Healthy: healthy}}
	})
	for _, c := range []struct {
		path, token, host string
		status            int
		has               string
	}{
		{"/v1/runs?page_size=2", token, "", 200, `"next_page_token":"`},
		{"/v1/runs", "", "", 401, `"code":16`},
		{"/v1/runs", "wrong", "", 401, `"code":16`},
		{"/v1/repositories/acme/shop/runs/7", token, "", 200, `"run_attempt":1`},
		{"/v1/repositories/acme/shop/runs/4711", token, "", 404, `"code":5`},
		{"/v1/repositories/acme/shop/runs/7/processes", token, "", 200, `/usr/bin/curl`},
		{"/v1/repositories/acme/shop/runs/7/destinations?execution_id=e7", token, "", 200, `h3.example.test`},
		{"/v1/repositories/acme/shop/runs/7/destinations?execution_id=other", token, "", 200, `"destinations":[]`},
		{"/v1/findings?minimum_severity=SEVERITY_CRITICAL", token, "", 200, `"f20"`},
		{"/v1/findings?minimum_severity=huge", token, "", 400, `"code":3`},
		{"/v1/findings/f1", token, "", 200, `"f1"`},
		{"/v1/baselines", token, "", 200, `"C I"`},
		{"/v1/repositories/acme/shop/baseline?workflow=C+I&job=build", token, "", 200, `"build"`},
		{"/v1/runs?page_token=%21", token, "", 400, `page_token`},
		{"/v1/runs?page_size=-1", token, "", 400, `page_size`},
		{"/v1/nothing", token, "", 404, `"code":5`},
		{"/v1/health", "", "", 200, `"healthy":true`},
		{"/healthz", "", "", 200, "ok"},
		{"/openapi.json", "", "", 200, `"swagger"`},
		{"/v1/health", "", "evil.example.test", 421, "localhost"},
		{"/v1/health", "", "localhost:1", 200, "healthy"},
	} {
		if code, body := a.get(t, c.path, c.token, c.host); code != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%s: %d, want %d with %s: %s", c.path, code, c.status, c.has, body)
		}
	}
	healthy = false
	if code, _ := a.get(t, "/healthz", "", ""); code != http.StatusServiceUnavailable {
		t.Errorf("/healthz with a part down: %d", code)
	}
}

// TestEveryDocumentedPathIsServed asks each path of the OpenAPI document without a
// token: one that is not served would say 404.
func TestEveryDocumentedPathIsServed(t *testing.T) {
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(sallyportv1.OpenAPI, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Paths) != 22 {
		t.Errorf("%d paths, want 22: one for each call, but one for making and listing enrolments", len(document.Paths))
	}
	a := serveAPI(t, recorded(t), shelf{}, nil)
	for path, methods := range document.Paths {
		want := http.StatusUnauthorized
		if path == "/v1/health" {
			want = http.StatusOK
		}
		if strings.HasPrefix(path, "/v1/identity:") { // needs no token, but a key that this server does not have
			want = http.StatusBadRequest
		}
		real := strings.NewReplacer("{repository}", "acme/shop", "{run_id}", "7", "{id}", "f1", "{finding_id}", "f1").Replace(path)
		ask := a.get
		if methods["post"] != nil {
			ask = a.post
		}
		if code, body := ask(t, real, "", ""); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
}

func FuzzDecodePage(f *testing.F) {
	list := listOf("runs")
	f.Add("")
	f.Add("!")
	f.Add(encodePage(list, &store.Cursor{Time: 1, Keys: []string{"a/b", "CI", "7"}, Numbers: []uint64{1}}))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := decodePage(list, token)
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v", err)
			}
			return
		}
		if again, err := decodePage(list, encodePage(list, &c)); err != nil || again.Time != c.Time || !slices.Equal(again.Keys, c.Keys) || !slices.Equal(again.Numbers, c.Numbers) {
			t.Errorf("%v became %v, %v", c, again, err)
		}
	})
}
