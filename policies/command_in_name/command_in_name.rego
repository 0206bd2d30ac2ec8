# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Command in the name of a branch or file
# description: >-
#   Git is asked for a branch, or given a file, whose name is a command of a shell.
#   Such a name does its work where a workflow puts it into a run line unquoted;
#   nobody gives a branch such a name for another reason.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: high
#   technique: T1059.004
#   remediation: >-
#     Hand names to scripts through variables of the environment, not through
#     expressions in run lines, and do not run pull_request_target with a stranger's
#     names. Look at what the run did; if it could, rotate its secrets.
package sallyport.policies.command_in_name

import data.sallyport.lineage

violation contains message if {
	input.behaviour.program in {"git", "gh", "git-lfs"}
	some argument in array.slice(input.process.arguments, 1, count(input.process.arguments))
	not regex.match(`\s`, argument)
	regex.match("(\\$\\(|`|\\$\\{IFS|\\$IFS|;\\{|\\|\\{)", argument)
	some subcommand in array.slice(input.process.arguments, 1, 8)
	subcommand in {"checkout", "fetch", "switch", "merge", "branch", "rev-parse", "pull", "push", "clone", "diff", "add", "show-ref", "log", "pr"}
	message := sprintf("git was given a name that is a command: %s", [argument])
}

violation contains message if {
	some name in lineage.called
	name in data.sallyport.lists.interpreters.shell
	input.job.event in {"pull_request_target", "issue_comment", "issues", "discussion", "discussion_comment", "workflow_run"}
	some argument in input.process.arguments
	regex.match(`\{(curl|wget),|(curl|wget)\$\{?IFS`, argument)
	message := sprintf("%s runs a command that was written to look like a name", [name])
}
