package detector

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"path"
	"strconv"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// behaviourKey says what makes two behaviours of one execution the same. Its
// parts are quoted, so that no program's name can look like a border.
func behaviourKey(step string, b *sallyportv1.Behaviour) string {
	parts := []string{b.GetKind().String(), step, b.GetProgram(), b.GetTarget()}
	switch b.GetKind() {
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS:
		parts = append(parts, strconv.FormatUint(uint64(b.GetPort()), 10), b.GetProtocol(), b.GetAddressScope())
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PROCESS_ACCESS:
		parts = append(parts, b.GetAccess(), strconv.FormatBool(b.GetTargetIsWorker()), strconv.FormatBool(b.GetTargetIsDescendant()))
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PIPE:
		// The arguments decide whether an interpreter runs what it reads.
		parts = append(parts, strconv.FormatBool(b.GetWriterDownloads()), strings.Join(b.GetTargetArguments(), "\x00"))
	default:
	}
	var key strings.Builder
	for _, p := range parts {
		key.WriteString(strconv.Quote(p))
	}
	return key.String()
}

// keyHash is a behaviour's key in eight bytes, for remembering what was judged.
func keyHash(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:8])
}

// findingID is the identity of a finding: the same for the same behaviour of the
// same execution under the same policy, whenever and wherever it is judged.
func findingID(execution, policy, key string) string {
	h := sha256.New()
	for _, part := range []string{execution, policy, key} {
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

func egress(s *scopes, by *sallyportv1.Process, f *sallyportv1.Flow) *sallyportv1.Behaviour {
	if d := f.GetDirection(); d == sallyportv1.Direction_DIRECTION_INBOUND || d == sallyportv1.Direction_DIRECTION_LISTENING {
		return nil
	}
	address, ok := netip.AddrFromSlice(f.GetDestinationAddress())
	if !ok {
		return nil
	}
	address = address.Unmap()
	b := &sallyportv1.Behaviour{
		Kind:         sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS,
		Program:      program(by),
		Address:      address.String(),
		Port:         f.GetDestinationPort(),
		Domain:       strings.ToLower(strings.TrimSuffix(f.GetDomain(), ".")),
		AddressScope: s.of(address),
	}
	b.Protocol = f.GetProtocol().Name()
	b.Target = b.GetDomain()
	if b.GetTarget() == "" {
		b.Target = b.GetAddress()
	}
	return b
}

var accessNames = map[sallyportv1.AccessKind]string{
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM:     "proc-mem",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS:    "proc-maps",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_ENVIRON: "proc-environ",
	sallyportv1.AccessKind_ACCESS_KIND_PTRACE:       "ptrace",
	sallyportv1.AccessKind_ACCESS_KIND_VM_READ:      "vm-read",
	sallyportv1.AccessKind_ACCESS_KIND_VM_WRITE:     "vm-write",
}
