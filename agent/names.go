package agent

import (
	"net/netip"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// maxNames bounds how many names of addresses are remembered.
	maxNames = 1 << 16
	// nameKept is how long a name holds. Programs keep connections and addresses far
	// longer than the records' own time to live says.
	nameKept = time.Hour
)

// nameKey is an address as somebody sees it: exactly one of process, container and
// execution is set, or none for the whole machine.
type nameKey struct {
	process   uint64
	container string
	execution string
	address   netip.Addr
}

type name struct {
	domain string
	boot   uint64
}

// nameTable remembers which name led to an address, for whom.
type nameTable struct{ names *simplelru.LRU[nameKey, name] }

func newNameTable(size int) *nameTable {
	names, err := simplelru.NewLRU[nameKey, name](size, nil)
	if err != nil { // only for a size that is not positive
		panic(err)
	}
	return &nameTable{names}
}

func (t *nameTable) learn(asker *process, process uint64, address netip.Addr, domain string, boot uint64) {
	n := name{domain, boot}
	t.names.Add(nameKey{process: process, address: address}, n)
	t.names.Add(nameKey{address: address}, n)
	if asker != nil && asker.container != nil {
		t.names.Add(nameKey{container: asker.container.group.ID, address: address}, n)
	}
	if at := asker.attributed(); at != nil {
		t.names.Add(nameKey{execution: at.message.GetExecutionId(), address: address}, n)
	}
}

// find returns the name that led p to an address: its own look-up first, then that
// of a process that it came from, then its container's, then its job's, then the
// machine's.
func (t *nameTable) find(p *process, process uint64, address netip.Addr, boot uint64) (string, sallyportv1.DomainSource) {
	if n, ok := t.get(nameKey{process: process, address: address}, boot); ok {
		return n, sallyportv1.DomainSource_DOMAIN_SOURCE_PROCESS
	}
	// What a process looked up before it ran its present program.
	for q, depth := p, 0; q != nil && q.parent != nil && depth < maxAncestors; q, depth = q.parent, depth+1 {
		if q.parent.message.GetPid() != p.message.GetPid() {
			break
		}
		if n, ok := t.get(nameKey{process: q.parent.message.GetId(), address: address}, boot); ok {
			return n, sallyportv1.DomainSource_DOMAIN_SOURCE_PROCESS
		}
	}
	if p != nil && p.container != nil {
		if n, ok := t.get(nameKey{container: p.container.group.ID, address: address}, boot); ok {
			return n, sallyportv1.DomainSource_DOMAIN_SOURCE_CONTAINER
		}
	}
	if at := p.attributed(); at != nil {
		if n, ok := t.get(nameKey{execution: at.message.GetExecutionId(), address: address}, boot); ok {
			return n, sallyportv1.DomainSource_DOMAIN_SOURCE_JOB
		}
	}
	if n, ok := t.get(nameKey{address: address}, boot); ok {
		return n, sallyportv1.DomainSource_DOMAIN_SOURCE_HOST
	}
	return "", sallyportv1.DomainSource_DOMAIN_SOURCE_UNSPECIFIED
}

func (t *nameTable) get(k nameKey, boot uint64) (string, bool) {
	n, ok := t.names.Get(k)
	if !ok || n.boot+uint64(nameKept) < boot {
		return "", false
	}
	return n.domain, true
}
