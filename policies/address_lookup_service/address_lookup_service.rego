# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: What is my address
# description: >-
#   A step asks a service that tells callers their own address. Malware does so to
#   learn where it runs before it goes on; builds seldom need it. Quiet where a
#   clean run of the job did the same.
# custom:
#   class: threat
#   kinds: [egress, lookup]
#   severity: medium
#   technique: T1016
#   remediation: >-
#     Find out which package or test asks. If the job needs its address (to open a
#     firewall for itself), approve it.
package sallyport.policies.address_lookup_service

import data.sallyport.hosts

violation contains message if {
	input.behaviour.kind in {"egress", "lookup"}
	not input.baseline.known
	some name in hosts.names
	hosts.entry(name, data.sallyport.lists.address_services.domains)
	count(asked_by_hand) == 0
	message := sprintf("%s asked %s for the address of the runner", [input.behaviour.program, name])
}

# Somebody looks whether a name is there.
asked_by_hand contains input.behaviour.program if {
	input.behaviour.kind == "lookup"
	input.behaviour.program in {"dig", "host", "nslookup"}
	not endswith(input.behaviour.domain, "opendns.com")
}
