# METADATA
# scope: package
# title: New endpoint
# description: >-
#   A step contacts an endpoint that no clean run of the job has contacted, though
#   the job's baseline is stable. Stolen secrets leave a runner this way.
# custom:
#   severity: high
#   technique: T1041
#   remediation: >-
#     Find out which dependency or action sends there (the ancestry says which
#     program in which step). If nobody expects it, rotate the secrets of the job.
#     If it is meant, forget the baseline of the job so that it is learned again.
package sallyport.policies.new_endpoint

violation contains message if {
	input.behaviour.kind == "egress"
	input.baseline.stable
	not input.baseline.known
	not input.behaviour.address_scope in {"loopback", "metadata"}
	message := sprintf(
		"%s sent to %s port %d (%s), which none of the %d clean runs of this job contacted",
		[input.behaviour.program, input.behaviour.target, input.behaviour.port, input.behaviour.protocol, input.baseline.runs],
	)
}
