# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: New endpoint
# description: >-
#   A step contacts an endpoint that no clean run of the job has contacted, though
#   the job's baseline is stable. Stolen secrets leave a runner this way. Where the
#   step or its action is another than before, it is told as low: the change may well
#   be the reason.
# custom:
#   class: new_behaviour
#   kinds: [egress]
#   severity: high
#   technique: T1041
#   remediation: >-
#     Find out which dependency or action sends there (the ancestry says which
#     program in which step). If nobody expects it, rotate the secrets of the job.
#     If it is meant, approve it for the job.
package sallyport.policies.new_endpoint

violation contains {"message": message, "severity": severity} if {
	input.behaviour.kind == "egress"
	input.baseline.stable
	not input.baseline.known
	not input.behaviour.address_scope in {"loopback", "metadata"}
	message := sprintf(
		"%s sent to %s port %d (%s), which none of the %d clean runs of this job contacted%s",
		[input.behaviour.program, input.behaviour.target, input.behaviour.port, input.behaviour.protocol, input.baseline.runs, because],
	)
}

severity := "high" if not reopened

severity := "low" if reopened

because := sprintf(" (%s)", [input.baseline.reopened]) if reopened

because := "" if not reopened

reopened if input.baseline.reopened != ""
