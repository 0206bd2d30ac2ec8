# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Later steps steered
# description: >-
#   Something that decides what later steps or later runs do is changed by what
#   should not: a workflow file in the checkout, a file that Python runs at each
#   start, the step's environment or path by a package's install script. Quiet where
#   a clean run of the job did the same.
# custom:
#   class: threat
#   kinds: [file]
#   severity: high
#   technique: T1195.001
#   also: [T1546.018, T1574.007]
#   remediation: >-
#     Look at what the file holds now, and at the branches and commits of the
#     repository. Find out from the ancestry which package or action wrote it.
package sallyport.policies.steering_write

import data.sallyport.lineage

violation contains {"message": message, "severity": severity} if {
	changes
	input.behaviour.rule == "workflow_file"
	not input.behaviour.program in {"git", "git-lfs", "tar", "rsync", "cp", "actionlint", "prettier", "zizmor", "pinact", "ratchet", "frizbee", "unzip", "bsdtar", "7z", "gh", "buildkitd", "dockerd", "docker"}
	in_checkout
	severity := severities
	message := sprintf("%s wrote the workflow file %s", [input.behaviour.program, input.behaviour.target])
}

violation contains {"message": message, "severity": severity} if {
	changes
	input.behaviour.rule == "python_startup"
	file := lineage.base(input.behaviour.target)
	not file in data.sallyport.lists.python_startup_files
	not regex.match(`^(__editable__|_+.*_editable|.*-nspkg\.pth$|.*\.egg-link$)|^_?[A-Za-z0-9_.{}-]+\.(editable|path)\.pth$`, file)
	not in_environment_being_made
	severity := startup_severities
	message := sprintf("%s put %s where Python runs it at each start", [input.behaviour.program, input.behaviour.target])
}

violation contains {"message": message, "severity": "high"} if {
	changes
	input.behaviour.rule in {"step_environment", "step_path"}
	installer := lineage.installer
	message := sprintf("%s, started by %s, changed the environment of later steps (%s)", [input.behaviour.program, installer, input.behaviour.rule])
}

violation contains {"message": message, "severity": "high"} if {
	changes
	input.behaviour.rule in {"name_resolution", "git_hook"}
	installer := lineage.installer
	not lineage.installs(input.process)
	not hook_manager
	message := sprintf("%s, started by %s, changed %s", [input.behaviour.program, installer, input.behaviour.target])
}

changes if {
	input.behaviour.category == "steering"
	input.behaviour.operation in {"written", "entered"}
	not input.baseline.known
}

# Programs that unpack packages write workflow files of those packages, too.
in_checkout if not regex.match(`/(node_modules|site-packages|dist-packages|vendor|\.cargo|\.npm|_cacache|go/pkg/mod|\.gradle|\.m2|_actions|_tool|_temp|tmp)/`, input.behaviour.target)

severities := "critical" if lineage.below_installer

severities := "medium" if not lineage.below_installer

startup_severities := "medium" if lineage.installs(input.process)

startup_severities := "high" if not lineage.installs(input.process)

# An environment that is made has what its maker puts there.
in_environment_being_made if input.behaviour.program in {"virtualenv", "conda", "mamba", "micromamba"}

hook_manager if {
	some process in array.concat([input.process], array.slice(input.ancestry, 0, 4))
	some name in lineage.names(process)
	name in {"husky", "lefthook", "pre-commit", "simple-git-hooks", "git", "yorkie", "ghooks", "overcommit"}
}
