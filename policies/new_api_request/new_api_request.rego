# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: New change at GitHub
# description: >-
#   A job asks GitHub for a change that no clean run of it asked for, or a program
#   does that never did.
# custom:
#   class: new_behaviour
#   kinds: [request]
#   severity: low
#   technique: T1102
#   remediation: >-
#     If the change is meant, approve it for the job. Give the job's token only the
#     permissions that its requests need.
package sallyport.policies.new_api_request

import data.sallyport.lineage

violation contains {"message": message, "severity": "low"} if {
	input.behaviour.method in {"POST", "PUT", "PATCH", "DELETE"}
	lineage.new
	input.behaviour.path != "/graphql"
	message := sprintf("%s asked %s for %s %s, which is new%s", [input.behaviour.program, input.behaviour.target, input.behaviour.method, input.behaviour.path, lineage.because])
}
