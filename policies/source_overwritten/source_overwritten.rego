# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Source changed after checkout
# description: >-
#   A file that git has checked out is changed by a program that no clean run of the
#   job let change it, and that is neither a formatter nor a package manager.
#   SUNSPOT swapped one source file of SolarWinds while the compiler ran, and put it
#   back.
# custom:
#   class: new_behaviour
#   kinds: [file]
#   severity: high
#   technique: T1195.002
#   also: [T1565.001]
#   remediation: >-
#     Compare the file with the commit (git diff), and the artifact with one that
#     was built elsewhere. If the step generates the file on purpose, approve it for
#     the job.
package sallyport.policies.source_overwritten

import data.sallyport.lineage

violation contains {"message": message, "severity": lineage.weigh(severities)} if {
	input.behaviour.category == "source"
	input.baseline.stable
	not input.baseline.known
	not input.behaviour.program in data.sallyport.lists.file_changers.formatters
	message := sprintf("%s %s %s, which git had checked out%s", [input.behaviour.program, done, input.behaviour.target, lineage.because])
}

violation contains {"message": message, "severity": lineage.weigh("high")} if {
	input.behaviour.category == "source"
	input.baseline.stable
	input.baseline.known
	not input.baseline.program_known
	not input.behaviour.program in data.sallyport.lists.file_changers.formatters
	message := sprintf("%s %s %s, which other programs of this job generate%s", [input.behaviour.program, done, input.behaviour.target, lineage.because])
}

done := {"read": "read", "written": "changed", "entered": "replaced", "left": "removed"}[input.behaviour.operation]

severities := "high" if not text

severities := "low" if text

text if regex.match(`\.(md|txt|rst|adoc|svg|png|snap|lock|sum|log)$`, input.behaviour.target)
