# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Another runner
# description: >-
#   A step registers or starts a runner of GitHub Actions. With it whoever
#   registered it runs commands on this machine whenever he likes, through GitHub,
#   which every firewall lets through. Shai-Hulud 2.0 did so.
# custom:
#   class: threat
#   kinds: [exec, request]
#   severity: critical
#   technique: T1543
#   also: [T1219]
#   remediation: >-
#     Remove the runner from the repository or organisation, replace the machine,
#     and rotate the secrets of the jobs that ran on it.
package sallyport.policies.runner_registration

import data.sallyport.lineage

violation contains message if {
	input.behaviour.kind == "exec"
	regex.match(` --url[ =]`, lineage.told)
	regex.match(` --(token[ =]|pat[ =]|unattended)`, concat("", [lineage.told, " "]))
	some word in array.concat([input.process.executable, input.process.script], array.slice(input.process.arguments, 0, 3))
	lineage.base(word) == "config.sh"
	message := sprintf("%s registered a runner", [input.behaviour.program])
}

violation contains message if {
	input.behaviour.kind == "exec"
	contains(concat(" ", [input.process.executable, lineage.told]), "unner")
	some name in lineage.running
	name in {"Runner.Listener", "Runner.Worker", "act_runner"}
	started
	message := sprintf("a step started %s", [name])
}

violation contains message if {
	input.behaviour.kind == "request"
	input.behaviour.method == "POST"
	endswith(input.behaviour.path, "/actions/runners/registration-token")
	not input.baseline.known
	message := sprintf("%s asked GitHub for a token with which a runner is registered", [input.behaviour.program])
}

# Its worker belongs to the job whose first process it is: what a step starts has a step.
started if input.job.step != ""
