# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Egress to a bare address
# description: >-
#   A step contacts a public address that nobody looked up. Software names its
#   hosts; malware often carries addresses, which no DNS log shows. Alarmed also
#   while the job is learned, unless a clean run of the job did the same before.
# custom:
#   class: threat
#   kinds: [egress]
#   severity: medium
#   technique: T1095
#   remediation: >-
#     Find out which program of the step carries the address. If it is meant, give
#     the host a name; if nobody expects it, rotate the secrets of the job.
package sallyport.policies.bare_address

violation contains message if {
	input.behaviour.kind == "egress"
	input.behaviour.domain == ""
	input.behaviour.address_scope == "public"
	input.behaviour.port != 53
	not input.baseline.known
	message := sprintf(
		"%s sent to %s port %d (%s), an address that nothing had looked up",
		[input.behaviour.program, input.behaviour.address, input.behaviour.port, input.behaviour.protocol],
	)
}
