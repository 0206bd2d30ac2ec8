# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Token of the checkout read
# description: >-
#   A program that is not git reads the checkout's .git/config by name, where
#   actions/checkout has left the job's token unless persist-credentials is false,
#   or an action packs it into an artifact. Quiet where the same program did so in a
#   clean run of the job.
# custom:
#   class: threat
#   kinds: [file]
#   severity: medium
#   technique: T1552.001
#   also: [T1528]
#   remediation: >-
#     Set persist-credentials: false at the checkout. If nobody expects the read,
#     revoke what the token could do: look at the repository's new branches, tags,
#     releases and workflow runs.
package sallyport.policies.git_config_token_read

import data.sallyport.lineage

violation contains {"message": message, "severity": "high"} if {
	reads
	regex.match(`\.git/config|extraheader|AUTHORIZATION`, lineage.told)
	not input.behaviour.program in {"git", "gh", "vi", "vim", "nano"}
	message := sprintf("%s read the token of the checkout in %s", [input.behaviour.program, input.behaviour.target])
}

violation contains message if {
	reads
	regex.match(`^actions/upload-(pages-)?artifact@`, input.job.action)
	message := sprintf("%s packs %s, with the token of the checkout, into an artifact", [input.job.action, input.behaviour.target])
}

violation contains {"message": message, "severity": "high"} if {
	reads
	installer := lineage.installer
	not lineage.installs(input.process)
	not input.behaviour.program in {"git", "go", "cargo", "husky", "lefthook", "pre-commit"}
	message := sprintf("%s, started by %s, read the token of the checkout in %s", [input.behaviour.program, installer, input.behaviour.target])
}

reads if {
	input.behaviour.rule == "git_config_token"
	input.behaviour.operation == "read"
	not quiet
	not startswith(input.job.action, "actions/checkout@")
}

quiet if {
	input.baseline.known
	input.baseline.program_known
}
