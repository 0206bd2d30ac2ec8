# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Known bad host
# description: >-
#   A step contacts, looks up or requests a host that an attack on CI has used
#   before: list known_bad_hosts. Wrong whatever the baseline says, also in audit
#   mode.
# custom:
#   class: threat
#   kinds: [egress, lookup, request]
#   severity: critical
#   technique: T1071.001
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Pin the
#     action or package that the ancestry names to a version from before the attack,
#     and search the other jobs for the same host.
package sallyport.policies.known_bad_host

import data.sallyport.hosts

violation contains message if {
	input.behaviour.kind in {"egress", "lookup", "request"}
	some name in hosts.names
	about := hosts.entry(name, data.sallyport.lists.known_bad_hosts.domains)
	message := sprintf("%s reached for %s, a known %s (%s)", [input.behaviour.program, name, about.kind, about.source])
}

violation contains message if {
	input.behaviour.kind == "egress"
	about := data.sallyport.lists.known_bad_hosts.addresses[input.behaviour.address]
	message := sprintf("%s sent to %s, a known %s (%s)", [input.behaviour.program, input.behaviour.address, about.kind, about.source])
}
