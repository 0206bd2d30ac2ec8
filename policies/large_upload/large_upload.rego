# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Much more sent than ever
# description: >-
#   A step sends to a known endpoint at least eight times as much as any clean run
#   did, and 16 MiB or more.
# custom:
#   class: new_behaviour
#   kinds: [egress]
#   severity: medium
#   technique: T1048
#   remediation: >-
#     Compare what the step uploads with the run before. If it grew for a reason,
#     approve it for the job.
package sallyport.policies.large_upload

import data.sallyport.lineage

violation contains {"message": message, "severity": lineage.weigh("medium")} if {
	input.behaviour.kind == "egress"
	input.baseline.stable
	input.baseline.known
	input.behaviour.bytes_sent >= 16777216
	input.behaviour.bytes_sent >= 8 * input.baseline.most_bytes_sent
	input.behaviour.address_scope == "public"
	message := sprintf(
		"%s sent %d MiB or more to %s, where no clean run sent more than %d MiB%s",
		[input.behaviour.program, input.behaviour.bytes_sent / 1048576, input.behaviour.target, ceil(most / 1048576), lineage.because],
	)
}

# Bytes are rounded down to a power of four.
most := 1048576 if input.baseline.most_bytes_sent == 0

most := 4 * input.baseline.most_bytes_sent if input.baseline.most_bytes_sent > 0
