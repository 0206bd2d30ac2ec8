package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

var update = flag.Bool("update", false, "write testdata/tables anew")

var tablesNow = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(tablesNow.Add(-d)) }

// answers are what a server answered: the tables are about what is made of it.
type answers struct {
	sallyportv1.SallyportServiceClient
	empty bool
}

func (a answers) run() *sallyportv1.Run {
	return &sallyportv1.Run{
		Repository: "acme/shop", Workflow: "CI", RunId: "16834110352", RunAttempt: 2, Event: "push", Ref: "refs/heads/main", Commit: "6e3b2c4f9d1a8b7c6d5e4f3a2b1c0d9e8f7a6b5c",
		Actor: "alice", Jobs: 1, Findings: 1, StartedAt: ago(3 * time.Hour), EndedAt: ago(3*time.Hour - 83*time.Second),
	}
}

func (a answers) ListRuns(context.Context, *sallyportv1.ListRunsRequest, ...grpc.CallOption) (*sallyportv1.ListRunsResponse, error) {
	if a.empty {
		return &sallyportv1.ListRunsResponse{}, nil
	}
	running := &sallyportv1.Run{
		Repository: "acme/\x1b[31mred", Workflow: "Liefern für alle", RunId: "9", Event: "pull_request", Ref: "refs/pull/7/merge",
		Actor: "dependabot[bot]", Jobs: 12, StartedAt: ago(20 * time.Second),
	}
	return &sallyportv1.ListRunsResponse{Runs: []*sallyportv1.Run{running, a.run()}}, nil
}

func (a answers) GetRun(context.Context, *sallyportv1.GetRunRequest, ...grpc.CallOption) (*sallyportv1.GetRunResponse, error) {
	return &sallyportv1.GetRunResponse{Run: a.run(), Jobs: []*sallyportv1.Job{{
		Job: "build", ExecutionId: "00000000000000a1", StartedAt: ago(3 * time.Hour), EndedAt: ago(3*time.Hour - time.Minute),
		Steps: []*sallyportv1.Step{{Step: "checkout", Action: "actions/checkout@v4", Processes: 12, Flows: 1}, {Step: "dependencies", Processes: 3}},
	}}}, nil
}

func (a answers) ListDestinations(context.Context, *sallyportv1.ListDestinationsRequest, ...grpc.CallOption) (*sallyportv1.ListDestinationsResponse, error) {
	if a.empty {
		return &sallyportv1.ListDestinationsResponse{}, nil
	}
	return &sallyportv1.ListDestinationsResponse{Destinations: []*sallyportv1.Destination{
		{Job: "build", Step: "checkout", Program: "git-remote-http", Domain: "git.example.test", Port: 443, Protocol: "tcp", Flows: 1, BytesSent: 812, BytesReceived: 1 << 20},
		{Job: "build", Step: "dependencies", Program: "curl", Addresses: []string{"203.0.113.99", "2001:db8::1"}, Port: 80, Protocol: "tcp", Flows: 2},
	}}, nil
}

func (a answers) ListProcesses(context.Context, *sallyportv1.ListProcessesRequest, ...grpc.CallOption) (*sallyportv1.ListProcessesResponse, error) {
	return &sallyportv1.ListProcessesResponse{Processes: []*sallyportv1.RunProcess{
		{Job: "build", Step: "checkout", EndedAt: ago(time.Hour), ExitCode: 128, Process: &sallyportv1.Process{Pid: 71, Executable: "/usr/bin/git", Arguments: []string{"git", "fetch", "--depth=1"}}},
		{Job: "build", Step: "dependencies", EndedAt: ago(time.Hour), Signal: 9, Process: &sallyportv1.Process{Pid: 72, Executable: "/usr/bin/curl", Arguments: []string{"curl", "one\ntwo"}}},
		{Job: "build", Step: "dependencies", Process: &sallyportv1.Process{Pid: 73, Executable: "/usr/bin/sleep"}},
	}}, nil
}

func (a answers) ListFindings(context.Context, *sallyportv1.ListFindingsRequest, ...grpc.CallOption) (*sallyportv1.ListFindingsResponse, error) {
	if a.empty {
		return &sallyportv1.ListFindingsResponse{}, nil
	}
	return &sallyportv1.ListFindingsResponse{Findings: []*sallyportv1.Finding{{
		Id: "0123456789abcdef0123456789abcdef", Time: ago(26 * time.Hour), Message: "curl reached evil.example.test",
		Policy:      &sallyportv1.Policy{Id: "new_endpoint", Severity: sallyportv1.Severity_SEVERITY_HIGH},
		Attribution: &sallyportv1.Attribution{Repository: "acme/shop", RunId: "16834110352", Job: "build", Step: "dependencies"},
	}}}, nil
}

func (a answers) ListBaselines(context.Context, *sallyportv1.ListBaselinesRequest, ...grpc.CallOption) (*sallyportv1.ListBaselinesResponse, error) {
	if a.empty {
		return &sallyportv1.ListBaselinesResponse{}, nil
	}
	return &sallyportv1.ListBaselinesResponse{Baselines: []*sallyportv1.Baseline{
		{Repository: "acme/shop", Workflow: "CI", Job: "build", Stable: true, Runs: 7, RunsNeeded: 5, RunsWithoutChange: 6, LearnedAt: ago(40 * time.Minute), Behaviours: []*sallyportv1.BaselineBehaviour{
			{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EXEC, Target: "/usr/bin/curl", Programs: []string{"curl"}, Runs: 1, FirstSeen: ago(9 * 24 * time.Hour), LastSeen: ago(9 * 24 * time.Hour)},
			{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_FILE, Target: "~/.npmrc", Operation: "read", Category: "credential", Programs: []string{"npm"}, Runs: 7, FirstSeen: ago(9 * 24 * time.Hour), LastSeen: ago(time.Hour)},
			{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS, Target: "registry.example.test", Port: 443, Protocol: "tcp", Programs: []string{"curl", "npm"}, Runs: 7, FirstSeen: ago(9 * 24 * time.Hour), LastSeen: ago(time.Hour)},
		}},
		{Repository: "acme/shop", Workflow: "CI", Job: "test", Runs: 2, RunsNeeded: 5, LearnedAt: ago(5 * time.Second)},
	}}, nil
}

// TestTables compares what a person sees with testdata/tables; -update writes it.
func TestTables(t *testing.T) {
	for name, show := range map[string]func(context.Context, *client) error{
		"runs": func(ctx context.Context, c *client) error { return c.listRuns(ctx, "", 0) },
		"run":  func(ctx context.Context, c *client) error { return c.showRun(ctx, "acme/shop", "16834110352", 0, true) },
		"findings": func(ctx context.Context, c *client) error {
			return c.listFindings(ctx, &sallyportv1.ListFindingsRequest{}, 0, false)
		},
		"baselines": func(ctx context.Context, c *client) error {
			a, err := c.ListBaselines(ctx, nil)
			if err != nil {
				return err
			}
			if err := c.listBaselines(a.Baselines); err != nil || len(a.Baselines) == 0 {
				return err
			}
			for _, b := range a.Baselines {
				if err := c.showBaseline(b); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		for _, empty := range []bool{false, true} {
			file := name
			if empty {
				file += "-empty"
			}
			t.Run(file, func(t *testing.T) {
				var out bytes.Buffer
				if err := show(t.Context(), &client{SallyportServiceClient: answers{empty: empty}, out: &out, now: tablesNow}); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join("testdata", "tables", file+".txt")
				if *update {
					if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out.Bytes(), want) {
					t.Errorf("got\n%swant (%s)\n%s", out.Bytes(), path, want)
				}
			})
		}
	}
}
