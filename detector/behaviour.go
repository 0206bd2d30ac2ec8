package detector

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path"
	"strconv"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Kinds of behaviour by short names.
const (
	kindEgress    = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS
	kindExec      = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EXEC
	kindAccess    = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PROCESS_ACCESS
	kindPipe      = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PIPE
	kindFile      = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_FILE
	kindLookup    = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_LOOKUP
	kindRequest   = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_REQUEST
	kindPrivilege = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PRIVILEGE
	kindSurvivor  = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_SURVIVOR
)

// sighting is a behaviour with what makes it the same as another.
type sighting struct {
	*sallyportv1.Behaviour
	// shape of an execution's command line.
	shape string
}

// identity says what makes two behaviours of one job the same: findings are told once
// for each. Its parts are quoted, so that no program's name can look like a border.
func (b sighting) identity(step string) string {
	parts := []string{b.GetKind().String(), step, b.GetProgram(), b.GetTarget()}
	switch b.GetKind() {
	case kindEgress:
		parts = append(parts, strconv.FormatUint(uint64(b.GetPort()), 10), b.GetProtocol(), b.GetAddressScope())
	case kindExec:
		parts = append(parts, b.shape)
	case kindAccess:
		parts = append(parts, b.GetAccess(), strconv.FormatBool(b.GetTargetIsWorker()), strconv.FormatBool(b.GetTargetIsDescendant()))
	case kindPipe:
		// The arguments decide whether an interpreter runs what it reads.
		parts = append(parts, strconv.FormatBool(b.GetWriterDownloads()), strings.Join(b.GetTargetArguments(), "\x00"))
	case kindFile:
		parts = append(parts, b.GetOperation(), b.GetRule(), b.GetCategory())
	case kindLookup:
		parts = append(parts, b.GetQuestionType(), b.GetAddress(), strconv.FormatUint(uint64(b.GetPort()), 10))
	case kindRequest:
		parts = append(parts, b.GetMethod(), b.GetPath())
	case kindPrivilege:
		parts = append(parts, b.GetPrivilege())
	default:
	}
	var key strings.Builder
	for _, p := range parts {
		key.WriteString(strconv.Quote(p))
	}
	return key.String()
}

// reading is the identity with what else a policy reads of the behaviour and may change
// while a run goes on: each is judged once.
func (b sighting) reading(identity string) string {
	switch b.GetKind() {
	case kindEgress:
		if b.GetApplication() == "" && b.GetServerName() == "" && !b.GetEncryptedHello() && b.GetBytesSent() == 0 {
			return identity
		}
		return identity + strconv.Quote(b.GetApplication()) + strconv.Quote(b.GetServerName()) +
			strconv.FormatBool(b.GetEncryptedHello()) + strconv.FormatUint(b.GetBytesSent(), 10)
	case kindLookup:
		return identity + strconv.FormatUint(uint64(b.GetNames()), 10) + " " + strconv.FormatUint(uint64(b.GetEncodedNames()), 10)
	default:
		return identity
	}
}

// keyHash is a key in eight bytes, for remembering what was judged. It is a part of a
// cryptographic hash, so that nobody can make a harmless behaviour that stands for a
// harmful one.
func keyHash(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:8])
}

// hashOf is a hash of parts that no other parts have, 32 hexadecimal digits.
func hashOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		_, _ = h.Write(size[:]) // a hash never fails
		_, _ = h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// program is the base name by which people know a process.
func program(p *sallyportv1.Process) string {
	if e := strings.TrimSuffix(p.GetExecutable(), " (deleted)"); e != "" {
		return path.Base(e)
	}
	if a := p.GetArguments(); len(a) > 0 && a[0] != "" {
		return path.Base(a[0])
	}
	return ""
}

// deed is something that a run did, as a baseline holds it.
type deed struct {
	Kind      sallyportv1.BehaviourKind `json:"kind"`
	Target    string                    `json:"target"`
	Port      uint32                    `json:"port,omitempty"`
	Protocol  string                    `json:"protocol,omitempty"`
	Operation string                    `json:"operation,omitempty"`
	Category  string                    `json:"category,omitempty"`
	Method    string                    `json:"method,omitempty"`
	Path      string                    `json:"path,omitempty"`
	Programs  []string                  `json:"programs"` // in order of their first time
	First     int64                     `json:"first"`    // Unix time in nanoseconds
	Last      int64                     `json:"last"`
	Sent      uint64                    `json:"sent,omitempty"` // most bytes by one program in one step
}

// deedKey is what makes two deeds the same. Programs do not: a baseline lists them.
type deedKey struct {
	kind                                                sallyportv1.BehaviourKind
	target, protocol, operation, category, method, path string
	port                                                uint32
}

func (d *deed) key() deedKey {
	return deedKey{
		kind: d.Kind, target: d.Target, protocol: d.Protocol, operation: d.Operation, category: d.Category,
		method: d.Method, path: d.Path, port: d.Port,
	}
}

// deedOf returns what a baseline would hold of a behaviour, and whether baselines hold
// such.
func deedOf(b *sallyportv1.Behaviour) (deedKey, bool) {
	k := deedKey{kind: b.GetKind(), target: b.GetTarget()}
	switch b.GetKind() {
	case kindEgress:
		k.port, k.protocol = b.GetPort(), b.GetProtocol()
		return k, b.GetAddressScope() != scopeLoopback
	case kindExec:
		return k, true
	case kindFile:
		k.operation, k.category = b.GetOperation(), b.GetCategory()
		return k, true
	case kindLookup:
		k.protocol = b.GetQuestionType()
		return k, true
	case kindRequest:
		k.method, k.path = b.GetMethod(), b.GetPath()
		return k, true
	default:
		return k, false
	}
}
