# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Another resolver
# description: >-
#   A step asks a resolver on a public address, or one over TLS, HTTPS or QUIC, that
#   no clean run of the job asked: its questions pass by the machine's resolver and
#   by everything that watches it.
# custom:
#   class: new_behaviour
#   kinds: [lookup, egress]
#   severity: medium
#   technique: T1071.004
#   remediation: >-
#     Find out which program brings a resolver of its own. If it is meant, approve
#     it for the job.
package sallyport.policies.foreign_resolver

import data.sallyport.lineage

violation contains {"message": message, "severity": lineage.weigh("medium")} if {
	input.behaviour.kind == "lookup"
	input.behaviour.address_scope == "public"
	input.baseline.stable
	not input.baseline.known
	message := sprintf("%s asked the resolver %s for names below %s%s", [input.behaviour.program, input.behaviour.address, input.behaviour.target, lineage.because])
}

violation contains {"message": message, "severity": lineage.weigh("medium")} if {
	input.behaviour.kind == "egress"
	startswith(input.behaviour.application, "dns-over-")
	lineage.new
	message := sprintf("%s asked the resolver %s by %s%s", [input.behaviour.program, input.behaviour.target, input.behaviour.application, lineage.because])
}
