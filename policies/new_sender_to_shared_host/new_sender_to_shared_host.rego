# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: New sender to a shared host
# description: >-
#   A program that never spoke to it sends to a host that the job knows, but where
#   anybody can have an account: a repository host, a store of a cloud, a place for
#   web pages. Stolen secrets leave past an allowlist this way.
# custom:
#   class: new_behaviour
#   kinds: [egress]
#   severity: medium
#   technique: T1567.001
#   remediation: >-
#     Find out what the program sends there (table http_requests holds the requests
#     to GitHub). If it is meant, approve it for the job; if nobody expects it,
#     rotate the secrets of the job.
package sallyport.policies.new_sender_to_shared_host

import data.sallyport.hosts
import data.sallyport.lineage

violation contains {"message": message, "severity": lineage.weigh("medium")} if {
	input.behaviour.kind == "egress"
	input.baseline.stable
	input.baseline.known
	not input.baseline.program_known
	some name in hosts.names
	hosts.entry(name, data.sallyport.lists.shared_hosts.domains)
	message := sprintf(
		"%s sent to %s, which the job knows but this program never contacted: %s%s",
		[input.behaviour.program, name, hosts.entry(name, data.sallyport.lists.shared_hosts.domains).source, lineage.because],
	)
}
