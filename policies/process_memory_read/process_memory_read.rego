# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Reading another process
# description: >-
#   A step reads the memory, the memory map or the environment of another process.
#   The memory of the runner's worker holds every secret of the job in clear; this
#   is how tj-actions/changed-files stole them. Wrong whatever the baseline says.
#   Debuggers, process listers in their usual places, and a process reaching into
#   its own descendants are left alone, except where they reach into the worker's
#   memory.
# custom:
#   class: threat
#   kinds: [process_access]
#   severity: high
#   technique: T1003.007
#   remediation: >-
#     Treat every secret of the job as known to others: rotate them now. Pin the
#     action of the step to a commit that you trust, and look at the ancestry for
#     what started the program.
package sallyport.policies.process_memory_read

violation contains {"message": message, "severity": "critical"} if {
	input.behaviour.kind == "process_access"
	input.behaviour.target_is_worker
	not listing
	message := sprintf(
		"%s reached into the runner's worker, which holds the secrets of the job (%s)",
		[input.behaviour.program, input.behaviour.access],
	)
}

violation contains {"message": message, "severity": severity} if {
	input.behaviour.kind == "process_access"
	not input.behaviour.target_is_worker
	not input.behaviour.target_is_descendant
	not listing
	not debugging
	severity := severities[input.behaviour.access]
	message := sprintf(
		"%s reached into another process, %s (%s)",
		[input.behaviour.program, target, input.behaviour.access],
	)
}

severities := {
	"proc-mem": "high",
	"vm-read": "high",
	"vm-write": "high",
	"ptrace": "medium",
	"proc-environ": "medium",
	"proc-maps": "low",
}

target := input.behaviour.target if input.behaviour.target != ""

target := "unknown" if input.behaviour.target == ""

# A process lister looks at the map and the environment of all processes alike.
listing if {
	input.behaviour.access in {"proc-maps", "proc-environ"}
	input.behaviour.program in data.sallyport.lists.process_tools.listers
	usual_place
}

debugging if {
	input.behaviour.program in data.sallyport.lists.process_tools.debuggers
	usual_place
}

usual_place if {
	some directory in data.sallyport.lists.process_tools.directories
	startswith(input.process.executable, directory)
}
