# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Cloud metadata address
# description: >-
#   A step contacts the address at which a cloud hands out the credentials of the
#   machine it runs on. Whoever gets them acts as the runner, outside of it too.
#   Wrong whatever the baseline says.
# custom:
#   class: threat
#   kinds: [egress]
#   severity: high
#   technique: T1552.005
#   remediation: >-
#     Give the job its cloud role by OIDC and block the metadata address for steps
#     (on AWS: IMDSv2 with hop limit 1). If nobody expects the request, revoke the
#     sessions of the machine's role.
package sallyport.policies.metadata_address

violation contains message if {
	input.behaviour.kind == "egress"
	metadata
	message := sprintf(
		"%s asked the cloud metadata service at %s port %d",
		[input.behaviour.program, input.behaviour.target, input.behaviour.port],
	)
}

metadata if input.behaviour.address_scope == "metadata"

metadata if input.behaviour.address in data.sallyport.lists.metadata_addresses.addresses

metadata if lower(input.behaviour.domain) in data.sallyport.lists.metadata_addresses.domains
