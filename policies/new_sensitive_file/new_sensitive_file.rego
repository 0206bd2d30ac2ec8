# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: New use of a file that matters
# description: >-
#   A job does to a file that matters what no clean run of it did: it reads a
#   credential, or changes something that stays or that steers later steps.
# custom:
#   class: new_behaviour
#   kinds: [file]
#   severity: medium
#   technique: T1005
#   also: [T1552.001, T1574.007]
#   remediation: >-
#     Find out from the ancestry which action or package did it. If it is meant,
#     approve it for the job; if nobody expects it and it is a credential, rotate
#     that.
package sallyport.policies.new_sensitive_file

import data.sallyport.lineage

violation contains {"message": message, "severity": lineage.weigh(severities[input.behaviour.category])} if {
	input.behaviour.operation in operations[input.behaviour.category]
	lineage.new
	not expected
	message := sprintf(
		"%s %s %s (%s), which no clean run of this job did%s",
		[input.behaviour.program, done, input.behaviour.target, input.behaviour.rule, lineage.because],
	)
}

operations := {
	"credential": {"read"},
	"persistence": {"written", "entered"},
	"steering": {"written", "entered"},
}

severities := {"credential": "medium", "persistence": "medium", "steering": "low"}

done := {"read": "read", "written": "changed", "entered": "made"}[input.behaviour.operation]

expected if input.behaviour.program in data.sallyport.lists.credential_owners[input.behaviour.rule]

expected if {
	input.behaviour.program in data.sallyport.lists.file_changers.system
	lineage.system_program
}

# Every step may do this, and package managers fill the folders of programs.
expected if input.behaviour.rule in {"step_environment", "step_path"}

expected if {
	input.behaviour.rule in {"path_folder", "python_startup", "workflow_file", "git_hook"}
	input.behaviour.program in data.sallyport.lists.file_changers.formatters
}

expected if {
	input.behaviour.rule in {"path_folder", "python_startup"}
	some process in array.concat([input.process], array.slice(input.ancestry, 0, 4))
	some name in lineage.names(process)
	name in {"npm", "pnpm", "yarn", "pip", "pipx", "uv", "poetry", "cargo", "rustup", "go", "gem", "bundle", "brew", "composer", "dotnet", "apt-get", "dpkg", "conda", "corepack"}
}

expected if {
	input.behaviour.rule == "git_config_token"
	startswith(input.job.action, "actions/checkout@")
}
