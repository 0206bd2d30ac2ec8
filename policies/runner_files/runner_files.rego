# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Files of the runner touched
# description: >-
#   A step reads or changes the files with which a runner proves who it is (.runner,
#   .credentials, .credentials_rsaparams), or changes its programs. Who has them is
#   the runner; who writes them registers another one.
# custom:
#   class: threat
#   kinds: [file]
#   severity: critical
#   technique: T1552.001
#   also: [T1552.004]
#   remediation: >-
#     Remove the runner from the repository or organisation, replace the machine,
#     and rotate the secrets of the jobs that ran on it.
package sallyport.policies.runner_files

violation contains message if {
	input.behaviour.category == "runner"
	not quiet
	not runner
	not in_workspace
	message := sprintf("%s: %s was %s by %s", [input.behaviour.rule, input.behaviour.target, done, input.behaviour.program])
}

done := {"read": "read", "written": "changed", "entered": "made", "left": "removed"}[input.behaviour.operation]

quiet if {
	input.baseline.known
	input.baseline.program_known
}

# What the runner itself does belongs to no step, and nothing in a step can leave it.
runner if {
	regex.match(`/bin(\.[0-9.]+)?/Runner\.(Listener|Worker|PluginHost)$`, input.process.executable)
	input.job.step == ""
}

# Files of the same names that a project has.
in_workspace if regex.match(`/_?work/[^/]+/[^/]+/`, input.behaviour.target)
