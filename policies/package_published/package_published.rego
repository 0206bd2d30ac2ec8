# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Package published where none should be
# description: >-
#   A package is published by an install script or a test, or in a run that a
#   stranger can start. Worms spread this way: each package that they get into
#   publishes the next ones.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: critical
#   technique: T1195.002
#   also: [T1072]
#   remediation: >-
#     Take the version back, revoke the token that published it, and find out from
#     the ancestry which package did it.
package sallyport.policies.package_published

import data.sallyport.lineage

violation contains message if {
	publishing
	installer := lineage.installer
	message := sprintf("an install script of %s published a package (%s)", [installer, lineage.told])
}

violation contains message if {
	publishing
	not lineage.below_installer
	input.job.event in {"pull_request", "pull_request_target", "issue_comment", "issues", "discussion", "discussion_comment"}
	message := sprintf("a run that %s started published a package (%s)", [input.job.event, lineage.told])
}

publishing if {
	some argument in array.slice(input.process.arguments, 1, 5)
	argument in {"publish", "upload", "push"}
	some name in lineage.called
	verbs[name] == argument
	not dry
}

verbs := {"npm": "publish", "pnpm": "publish", "yarn": "publish", "bun": "publish", "twine": "upload", "cargo": "publish", "gem": "push", "poetry": "publish", "uv": "publish", "hatch": "publish", "flit": "publish"}

dry if "--dry-run" in input.process.arguments

dry if "-n" in input.process.arguments
