package detector

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// finding makes a finding of a violation. Its identity is the same for the same behaviour
// of the same execution under the same policy, whenever and wherever it is judged; its
// fingerprint is the same in all runs of the job.
func finding(x *execution, s *sight, p *compiledPolicy, v *violation, identity string) *sallyportv1.Finding {
	about := proto.CloneOf(p.about)
	about.Severity = v.severity
	a := s.attribution
	return &sallyportv1.Finding{
		Id:          hashOf(x.id, about.GetId(), identity),
		Fingerprint: hashOf(about.GetId(), a.GetRepository(), a.GetWorkflow(), a.GetJob(), identity),
		Time:        timestamppb.New(time.Unix(0, s.time)), Policy: about, Message: strings.ToValidUTF8(v.message, "\uFFFD"),
		Attribution: proto.CloneOf(a), AgentId: s.agent, Hostname: s.hostname,
	}
}

// tell notes that a finding was made.
func (x *execution) tell(f *sallyportv1.Finding) {
	x.told[f.GetId()] = true
	if len(x.Told) >= maxTold {
		x.incomplete("more findings than are remembered")
		return
	}
	threat := f.GetPolicy().GetClass() != sallyportv1.PolicyClass_POLICY_CLASS_NEW_BEHAVIOUR
	t := told{
		ID: f.GetId(), Time: f.GetTime().AsTime().UnixNano(), Severity: f.GetPolicy().GetSeverity(), Threat: threat,
		Reopened: !threat && f.GetBaseline().GetReopened() != "", Message: f.GetMessage(), Brief: brief(f),
	}
	// The severest are kept whole: a flood of small ones does not push out the one that matters.
	if least := x.leastBrief(); least != nil && len(t.Brief) > 0 {
		if least.Severity >= t.Severity {
			t.Brief = nil
		} else {
			least.Brief = nil
		}
	}
	x.Told = append(x.Told, t)
}

// maxBriefs bounds the findings that an execution keeps whole, for its verdict.
const maxBriefs = 32

// leastBrief returns the last of the least severe findings that are kept whole, if there are as
// many as may be.
func (x *execution) leastBrief() *told {
	var least *told
	n := 0
	for i := range x.Told {
		if t := &x.Told[i]; len(t.Brief) > 0 {
			n++
			if least == nil || t.Severity <= least.Severity {
				least = t
			}
		}
	}
	if n < maxBriefs {
		return nil
	}
	return least
}

// What a verdict keeps of a finding's processes. All of a verdict has to fit into one message.
const (
	briefAncestry  = 6
	briefArguments = 12
	briefArgument  = 256 // bytes
	maxBrief       = 8 << 10
)

// brief is a finding as verdicts have it.
func brief(f *sallyportv1.Finding) []byte {
	b := proto.CloneOf(f)
	b.Ancestry = b.GetAncestry()[:min(len(b.GetAncestry()), briefAncestry)]
	shorten := func(words []string) []string {
		words = words[:min(len(words), briefArguments)]
		for i, w := range words {
			if len(w) > briefArgument {
				words[i] = strings.ToValidUTF8(w[:briefArgument], "") + "…"
			}
		}
		return words
	}
	for _, p := range b.GetAncestry() {
		p.Arguments = shorten(p.GetArguments())
	}
	if b.GetBehaviour() != nil {
		b.Behaviour.TargetArguments = shorten(b.GetBehaviour().GetTargetArguments())
	}
	data, err := proto.Marshal(b)
	if err == nil && len(data) > maxBrief {
		b.Ancestry = nil
		data, err = proto.Marshal(b)
	}
	if err != nil || len(data) > maxBrief {
		return nil // its id and message are told all the same
	}
	return data
}

// maxExcepted bounds the exceptions that a verdict tells of.
const maxExcepted = 20

// except notes that a finding was not made.
func (x *execution) except(policy string, e *Exception) {
	line := fmt.Sprintf("Excepted: %s, by %s: %s", policy, e, e.Reason)
	if i, there := slices.BinarySearch(x.Excepted, line); !there && len(x.Excepted) < maxExcepted {
		x.Excepted = slices.Insert(x.Excepted, i, line)
		x.dirty = true
	}
}

// remedies are the ways to settle a finding. Only its identity, which is hexadecimal, and
// hosts and ports stand in commands: nothing that somebody could have put there.
func remedies(f *sallyportv1.Finding) []*sallyportv1.Remedy {
	var out []*sallyportv1.Remedy
	d, learnable := deedOf(f.GetBehaviour())
	if learnable && f.GetAttribution().GetRepository() != "" {
		out = append(out, &sallyportv1.Remedy{
			Title: "Approve it for this job", Text: fmt.Sprintf("sallyport baseline approve %s --reason \"...\"", f.GetId()),
		})
	}
	if line := allowLine(d.target, d.port); d.kind == kindEgress && line != "" {
		out = append(out, &sallyportv1.Remedy{Title: "As an allowed endpoint", Text: line})
	}
	return append(out, &sallyportv1.Remedy{
		Title: "Settle it", Text: fmt.Sprintf("sallyport findings resolve %s --outcome expected --reason \"...\"", f.GetId()),
	})
}

// allowLine is an endpoint as allowlists name it, HOST:PORT. Empty for a name that no
// host has.
func allowLine(target string, port uint32) string {
	if port == 0 || target == "" || strings.ContainsFunc(target, func(r rune) bool {
		return r > 127 || !word(byte(r)) && !strings.ContainsRune(".-_:*", r)
	}) {
		return ""
	}
	return net.JoinHostPort(target, strconv.FormatUint(uint64(port), 10))
}
