package agent

import (
	"cmp"
	"container/list"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport/bpf"
)

const (
	// answerPatience is how long a question waits for its answer, or for further ones
	// where several may answer.
	answerPatience = 5 * time.Second
	// maxQuestions bounds how many questions wait for an answer.
	maxQuestions = 8192
)

// Ports of link-local name resolution, whose questions go to everybody on the link.
const (
	portMDNS  = 5353 // RFC 6762
	portLLMNR = 5355 // RFC 4795
)

// messageKey tells which answer is one to which questions.
type messageKey struct {
	process uint64
	// server without an address stands for everybody on the link.
	server netip.AddrPort
	port   uint16
	id     uint16
}

// exactKey is the key of a message that goes to one server, or comes from it.
func exactKey(r *bpf.DNS, id uint16) messageKey {
	return messageKey{r.Process, r.Server, r.Port, id}
}

// linkKey is the key of a message that goes to everybody on the link, or of an answer
// that comes from somebody there. An answer of multicast DNS may come to another
// socket of the process than the one that asked, and names no message.
func linkKey(r *bpf.DNS, id uint16) messageKey {
	k := messageKey{process: r.Process, server: netip.AddrPortFrom(netip.Addr{}, r.Server.Port())}
	if r.Server.Port() != portMDNS {
		k.port, k.id = r.Port, id
	}
	return k
}

// question is a question that waits for its answer.
type question struct {
	dnsQuestion
	key    messageKey
	server netip.AddrPort
	asker  *process
	asked  uint64 // boot time
	number uint64 // in the order of asking
	entry  *list.Element

	// answered is true of one that waits for further answers.
	answered bool
	told     []netip.Addr
}

// openToMore says whether several may answer.
func (q *question) openToMore() bool {
	return !q.key.server.Addr().IsValid() && q.key.server.Port() == portMDNS
}

// questionTable holds the questions that wait for an answer.
type questionTable struct {
	byMessage map[messageKey]map[dnsQuestion]*question
	order     list.List // of *question, oldest first
	asked     uint64
}

func newQuestionTable() *questionTable {
	return &questionTable{byMessage: make(map[messageKey]map[dnsQuestion]*question)}
}

func (t *questionTable) ask(q *question) (pushedOut *question) {
	if t.byMessage[q.key][q.dnsQuestion] != nil {
		return nil // asked again: the first time counts
	}
	if t.order.Len() >= maxQuestions {
		pushedOut = t.order.Front().Value.(*question)
		t.remove(pushedOut)
	}
	t.asked++
	q.number = t.asked
	q.entry = t.order.PushBack(q)
	if t.byMessage[q.key] == nil {
		t.byMessage[q.key] = make(map[dnsQuestion]*question, 1)
	}
	t.byMessage[q.key][q.dnsQuestion] = q
	return pushedOut
}

// answeredBy returns the questions that a message answers, in the order of its own or,
// where it has none, of asking. They go on waiting until they are removed.
func (t *questionTable) answeredBy(r *bpf.DNS, m *dnsMessage) (answered []*question) {
	for _, key := range []messageKey{exactKey(r, m.id), linkKey(r, m.id)} {
		waiting := t.byMessage[key]
		for _, q := range m.questions {
			if w := waiting[q]; w != nil && !slices.Contains(answered, w) {
				answered = append(answered, w)
			}
		}
		if len(answered) > 0 {
			return answered
		}
		for _, w := range waiting {
			// An error may come without the question; multicast DNS never repeats it.
			if w.openToMore() && m.answered(w.dnsQuestion) || !w.openToMore() && len(m.questions) == 0 {
				answered = append(answered, w)
			}
		}
		if len(answered) > 0 {
			slices.SortFunc(answered, func(a, b *question) int { return cmp.Compare(a.number, b.number) })
			return answered
		}
	}
	return nil
}

func (t *questionTable) remove(q *question) {
	t.order.Remove(q.entry)
	waiting := t.byMessage[q.key]
	if delete(waiting, q.dnsQuestion); len(waiting) == 0 {
		delete(t.byMessage, q.key)
	}
}

func (t *questionTable) unansweredSince(boot uint64) []*question {
	var due []*question
	for e := t.order.Front(); e != nil; e = t.order.Front() {
		q := e.Value.(*question)
		if q.asked >= boot {
			break
		}
		t.remove(q)
		due = append(due, q)
	}
	return due
}
