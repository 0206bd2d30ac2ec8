# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Something that stays on the runner
# description: >-
#   A step writes what makes a program run later: cron, a systemd unit, a shell's
#   profile, a key that may log in, sudoers, the loader's list. On a runner that is
#   used again it meets the next job. Package managers of the machine are left
#   alone, and so is what a clean run of the job did.
# custom:
#   class: threat
#   kinds: [file]
#   severity: high
#   technique: T1053.003
#   also: [T1543.002, T1546.004, T1098.004, T1548.003, T1574.006]
#   remediation: >-
#     Replace the runner. Find out from the ancestry what wrote the file, and treat
#     the secrets of later jobs on the machine as known to others. Runners that are
#     used once do not have this problem.
package sallyport.policies.persistence_write

import data.sallyport.lineage

violation contains {"message": message, "severity": severity} if {
	input.behaviour.category == "persistence"
	input.behaviour.operation in {"written", "entered"}
	not input.baseline.known
	not system_installer
	severity := severities
	message := sprintf("%s %s %s (%s)", [input.behaviour.program, done, input.behaviour.target, input.behaviour.rule])
}

done := {"written": "changed", "entered": "made"}[input.behaviour.operation]

# The machine's package managers, and what they start.
system_installer if {
	some process in array.concat([input.process], array.slice(input.ancestry, 0, 10))
	lineage.base(process.executable) in data.sallyport.lists.file_changers.system
	regex.match(`^/(usr/(local/)?)?(s?bin|lib|libexec|lib/systemd)/|^/snap/`, process.executable)
	not lineage.base(process.executable) in {"sudo", "docker", "systemd"}
}

severities := "high" if not own_profile

# Installers of tool chains change the profile of the user; so does nobody's package.
severities := "critical" if {
	own_profile
	lineage.below_installer
}

severities := "low" if {
	own_profile
	not lineage.below_installer
	input.behaviour.program in data.sallyport.lists.file_changers.profiles
}

severities := "medium" if {
	own_profile
	not lineage.below_installer
	not input.behaviour.program in data.sallyport.lists.file_changers.profiles
}

own_profile if input.behaviour.rule == "shell_profile"

own_profile if endswith(input.behaviour.target, ".ssh/config")
