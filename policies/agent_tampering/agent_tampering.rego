# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Attempt on the agent
# description: >-
#   A step stops, kills, removes or steers the agent that watches it, or signals it.
# custom:
#   class: threat
#   kinds: [exec, privilege]
#   severity: critical
#   technique: T1562.001
#   remediation: >-
#     Look at what the run did before and after; what was not seen then is a finding
#     of its own (the agent fell silent). Treat the machine and the job's secrets as
#     known to others.
package sallyport.policies.agent_tampering

import data.sallyport.lineage

violation contains message if {
	input.behaviour.kind == "privilege"
	input.behaviour.privilege == "signal"
	not input.behaviour.program in {"systemd", "init", "dockerd", "containerd-shim-runc-v2", "kubelet"}
	message := sprintf("%s sent the agent a signal", [input.behaviour.program])
}

violation contains message if {
	input.behaviour.kind == "exec"
	some argument in array.slice(input.process.arguments, 1, count(input.process.arguments))
	regex.match(`sallyport-agent|/sallyport/|^sallyport(\.service)?$`, argument)
	harms
	message := sprintf("%s was turned against the agent: %s", [input.behaviour.program, lineage.told])
}

harms if input.behaviour.program in {"pkill", "killall", "kill", "chattr", "shred", "iptables", "nft"}

harms if {
	input.behaviour.program in {"systemctl", "service"}
	some argument in input.process.arguments
	argument in {"stop", "disable", "mask", "kill", "freeze", "restart", "revert"}
}

harms if {
	input.behaviour.program == "rm"
	some argument in input.process.arguments
	regex.match(`^/(usr|opt|etc|var|run|sys/fs/bpf)/.*sallyport`, argument)
}

harms if {
	input.behaviour.program in {"docker", "podman", "kubectl"}
	some argument in array.slice(input.process.arguments, 1, 3)
	argument in {"stop", "kill", "pause", "rm", "delete"}
}
