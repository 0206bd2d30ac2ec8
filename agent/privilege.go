package agent

import (
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

func (a *Agent) privilege(r *bpf.Privilege) {
	p := a.actor(r.Head())
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(r.Time),
		Body: &sallyportv1.Event_PrivilegeUse{PrivilegeUse: &sallyportv1.PrivilegeUse{
			Kind:         privilegeKinds[r.Kind],
			Capabilities: r.Gained.Names(), EffectiveUidBefore: r.EUIDBefore, EffectiveUid: r.EUID,
			Namespaces: r.Namespaces.Names(), Signal: uint32(r.Signal), Object: text(r.Name),
		}},
	}, p, p.attributed(), "privilege")
	a.urgent()
}

var privilegeKinds = map[bpf.PrivilegeKind]sallyportv1.PrivilegeKind{
	bpf.PrivilegeGained:     sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED,
	bpf.PrivilegeNamespaces: sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES,
	bpf.PrivilegeModule:     sallyportv1.PrivilegeKind_PRIVILEGE_KIND_MODULE,
	bpf.PrivilegeBPF:        sallyportv1.PrivilegeKind_PRIVILEGE_KIND_BPF,
	bpf.PrivilegeSignal:     sallyportv1.PrivilegeKind_PRIVILEGE_KIND_SIGNAL,
	bpf.PrivilegePackets:    sallyportv1.PrivilegeKind_PRIVILEGE_KIND_PACKETS,
}
