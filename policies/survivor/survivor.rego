# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Process that outlives its job
# description: >-
#   A process still runs when its job has ended, though the runner ends what a job
#   leaves behind: it has hidden from that (RUNNER_TRACKING_ID cleared, another
#   session). On a runner that is used again it sees the next job. Services of the
#   machine are left alone.
# custom:
#   class: threat
#   kinds: [survivor]
#   severity: medium
#   technique: T1543
#   also: [T1036]
#   remediation: >-
#     End the process, or replace the runner. If the job is meant to leave a service
#     behind, start it as one (systemd, a container), or name its program in the
#     list daemons.
package sallyport.policies.survivor

import data.sallyport.lineage

violation contains {"message": message, "severity": severity} if {
	not service
	severity := severities
	message := sprintf("%s still runs after its job (%s)", [input.behaviour.program, substring(lineage.told, 0, 200)])
}

service if {
	input.behaviour.program in data.sallyport.lists.daemons
	not lineage.in_scratch(input.process.executable)
	not input.process.executable_in_memory
}

# Servers of tool chains that wait for the next build.
service if {
	input.behaviour.program in {"java", "node", "dotnet", "python3", "ruby"}
	regex.match(`GradleDaemon|KotlinCompileDaemon|GradleWrapperMain|MSBuild\.dll|VBCSCompiler|A-server\.jar|MavenDaemon|org\.mvndaemon|nailgun|sbt-launch|bloop|buck2|jest-haste|watchman|nxd?/src/daemon|turbo.*daemon|rubocop.*server|spring server`, lineage.told)
}

service if regex.match(`^/(usr/)?lib/(systemd|polkit-1|snapd|packagekit)/|^/snap/|^/usr/libexec/`, input.process.executable)

service if input.process.container.id != ""

hidden if input.process.executable_in_memory

hidden if input.process.executable_deleted

hidden if lineage.in_scratch(input.process.executable)

hidden if regex.match(`/\.[^/]+$`, input.process.executable)

severities := "high" if hidden

severities := "medium" if not hidden
