package stream

import "strings"

// Streams.
const (
	// EventsStream carries batches of events from agents.
	EventsStream = "EVENTS"
	// FindingsStream carries findings from the detector.
	FindingsStream = "FINDINGS"
	// DeadLettersStream keeps what a part could not use.
	DeadLettersStream = "DEADLETTERS"
)

// Durable pull consumers.
const (
	// IngestConsumer reads EVENTS and FINDINGS into ClickHouse.
	IngestConsumer = "ingest"
	// DetectorConsumer reads EVENTS.
	DetectorConsumer = "detector"
	// NotifyConsumer reads FINDINGS.
	NotifyConsumer = "notify"
)

// Key-value buckets, each written by one part only; baselines are also written by the
// server, when somebody decides about one.
const (
	// BaselinesBucket holds one baseline a job.
	BaselinesBucket = "BASELINES"
	// IngestBucket holds the ranges of the stream that are being inserted.
	IngestBucket = "INGEST"
	// IngestedBucket holds which events of each start of an agent are in the tables.
	IngestedBucket = "INGESTED"
	// DetectorBucket holds the executions that the detector follows.
	DetectorBucket = "DETECTOR"
	// VerdictsBucket holds the verdict on each execution of a job for VerdictWindow.
	VerdictsBucket = "VERDICTS"
	// DecisionsBucket holds what people decided. Nothing in it is ever changed.
	DecisionsBucket = "DECISIONS"
	// NotifyBucket holds what was delivered to whom.
	NotifyBucket = "NOTIFY"
	// ChecksBucket holds what is known of commits whose checks are kept, and webhooks that are to
	// be carried out, for VerdictWindow.
	ChecksBucket = "CHECKS"
	// TokensBucket holds which OIDC tokens were exchanged, for TokenWindow.
	TokensBucket = "TOKENS"
	// EnrolmentsBucket holds enrolment keys, as digests, and who is enrolled.
	EnrolmentsBucket = "ENROLMENTS"
	// RefusalsBucket holds who was refused a credential, for RefusalWindow.
	RefusalsBucket = "REFUSALS"
	// PoliciesBucket is to hold what an agent may know of its repository, by PolicyKey.
	// Nothing is in it yet; agents already have the right to read their own key, by
	// $JS.API.DIRECT.GET.
	PoliciesBucket = "POLICIES"
)

// Parts that run apart, as inboxes and permissions are named for them.
const (
	PartIngest   = "ingest"
	PartDetector = "detector"
	PartNotify   = "notify"
	PartServer   = "server"
	PartChecks   = "checks"
	// PartUp is all of them in one process.
	PartUp = "up"
	// PartDeclare is whoever declares streams: an administrator.
	PartDeclare = "declare"
)

const (
	// eventPrefix and the agent's identity make the subject of its events.
	eventPrefix = "sallyport.events."
	// FindingSubject is the subject of findings.
	FindingSubject = "sallyport.findings"
	// heartbeatPrefix and the agent's identity make the subject of its heartbeats, which
	// no stream keeps.
	heartbeatPrefix = "sallyport.heartbeats."
	// reportPrefix and the agent's identity make the subject on which it asks for the
	// judgement of a job. No stream keeps it.
	reportPrefix = "sallyport.reports."
	// deadLetterPrefix and the part's name make the subject of its dead letters.
	deadLetterPrefix = "sallyport.deadletters."
)

// EventSubject returns the subject on which an agent publishes.
func EventSubject(agentID string) string { return eventPrefix + agentID }

// HeartbeatSubject returns the subject of an agent's heartbeats.
func HeartbeatSubject(agentID string) string { return heartbeatPrefix + agentID }

// ReportSubject returns the subject on which an agent asks for the
// judgement of a job.
func ReportSubject(agentID string) string { return reportPrefix + agentID }

// PolicyKey returns the key of a repository, "owner/name", in the bucket POLICIES: its
// name, with =2E for each dot, which would begin another word of a subject.
func PolicyKey(repository string) string { return strings.ReplaceAll(repository, ".", "=2E") }

// PolicySubject returns the subject on which the bucket POLICIES is asked for a
// repository's key and for nothing else.
func PolicySubject(repository string) string {
	return "$JS.API.DIRECT.GET." + bucketPrefix + PoliciesBucket + ".$KV." + PoliciesBucket + "." + PolicyKey(repository)
}

// AgentSubjects are the subjects on which agents may publish, with wildcards.
func AgentSubjects() []string {
	return []string{eventPrefix + "*", heartbeatPrefix + "*", reportPrefix + "*"}
}

// AgentInbox returns the subject below which an agent's answers arrive. It is below
// _INBOX, which `sallyport up` admits its agents to.
func AgentInbox(agentID string) string { return "_INBOX.agent." + agentID }

// Inbox returns the subject below which the answers to a part (PartIngest and so on)
// arrive. It is not below _INBOX: events are among the answers, and whoever may read all
// of _INBOX, as many may by habit, would read them.
func Inbox(part string) string { return "_INBOX_" + part }

// ValidAgentID says whether an agent's identity can stand in a subject: 1 to 64
// characters of [A-Za-z0-9_-].
func ValidAgentID(id string) bool {
	return len(id) >= 1 && len(id) <= 64 && strings.IndexFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}) < 0
}
