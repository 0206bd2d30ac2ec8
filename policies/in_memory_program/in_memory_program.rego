# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Program that is on no disk
# description: >-
#   A program runs whose file is on no disk (memfd_create), or was removed before it
#   started. Nobody can look at it later. Container engines that start themselves
#   that way are left alone.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: high
#   technique: T1620
#   also: [T1070.004]
#   remediation: >-
#     Find out from the ancestry what made the program. If it is a tool that unpacks
#     itself, approve it for the job; if nobody expects it, treat the secrets of the
#     job as known to others.
package sallyport.policies.in_memory_program

violation contains {"message": message, "severity": severity} if {
	input.behaviour.kind == "exec"
	severity := severities
	not input.baseline.known
	not engine
	message := sprintf("%s runs from a file that %s", [input.process.executable, where])
}

severities := "high" if input.process.executable_in_memory

severities := "medium" if {
	input.process.executable_deleted
	not input.process.executable_in_memory
}

where := "is on no disk" if input.process.executable_in_memory

where := "no folder has any more" if not input.process.executable_in_memory

# runc, crun and the like start a copy of themselves, so that a container cannot reach them.
engine if {
	some process in array.slice(input.ancestry, 0, 3)
	regex.match(`^/usr/(local/)?s?bin/(runc|crun|youki|podman|buildah|dockerd|docker|containerd.*|conmon|bwrap|systemd.*)$`, process.executable)
}
