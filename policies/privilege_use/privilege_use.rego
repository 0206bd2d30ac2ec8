# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Unusual use of a privilege
# description: >-
#   A program that is not made for it loads a kernel module or an eBPF program or
#   sends raw frames, or a program from a place where everybody may write has become
#   root. Who is in the kernel sees every secret and can hide from the agent.
# custom:
#   class: threat
#   kinds: [privilege]
#   severity: high
#   technique: T1547.006
#   also: [T1068, T1548.001, T1040, T1014]
#   remediation: >-
#     Take sudo away from steps that do not need it. If a program of yours is made
#     for it, name it in the list privileged_programs; if nobody expects it, replace
#     the runner and rotate the secrets of the jobs that ran on it.
package sallyport.policies.privilege_use

import data.sallyport.lineage

violation contains {"message": message, "severity": severity} if {
	severity := {"module": "high", "bpf": "medium", "packets": "medium"}[input.behaviour.privilege]
	not expected
	message := sprintf("%s %s%s", [input.behaviour.program, done, target])
}

done := {"module": "loaded a kernel module", "bpf": "loaded an eBPF program", "packets": "sent raw frames"}[input.behaviour.privilege]

target := sprintf(", %s", [input.behaviour.target]) if input.behaviour.target != ""

target := "" if input.behaviour.target == ""

expected if {
	input.behaviour.program in data.sallyport.lists.privileged_programs[input.behaviour.privilege]
	lineage.system_program
}

expected if regex.match(`^/(usr/(local/)?)?(lib|libexec)/|^/opt/(cni|containerd)/|^/snap/|^/var/lib/rancher/`, input.process.executable)

expected if input.process.container.id != ""

# A program that belongs to another user and runs as him.
violation contains message if {
	input.behaviour.privilege == "gained"
	lineage.in_scratch(input.process.executable)
	"CAP_SYS_ADMIN" in {upper(c) | some c in input.behaviour.capabilities}
	not by_namespace
	message := sprintf("%s, which is where everybody may put a program, became root", [input.process.executable])
}

# Who makes a user namespace has all capabilities in it, and none outside.
by_namespace if regex.match(`^/tmp/(go-build|cargo|bazel|nix|pytest)`, input.process.executable)

by_namespace if {
	some process in array.slice(input.ancestry, 0, 4)
	lineage.base(process.executable) in {"sudo", "doas", "unshare", "bwrap", "podman", "buildah", "rootlesskit", "newuidmap", "su", "docker", "go"}
}
