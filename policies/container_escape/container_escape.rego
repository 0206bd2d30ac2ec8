# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Way out of a container to the machine
# description: >-
#   A step gives a container the whole machine (its root folder, or all its
#   processes with all privileges), or enters the namespaces of the machine's first
#   process. Who may do so is root on the runner, whatever sudo says.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: high
#   technique: T1611
#   also: [T1610, T1548]
#   remediation: >-
#     Give the container only the folders that it needs. If nobody expects it, treat
#     the runner as taken over: replace it, and rotate the secrets of the jobs that
#     ran on it.
package sallyport.policies.container_escape

violation contains {"message": message, "severity": severity} if {
	starts_container
	some [source, mode] in root_mounts
	severity := severities(mode)
	message := sprintf("%s gave a container the folder %s of the machine", [input.behaviour.program, source])
}

violation contains message if {
	starts_container
	"--privileged" in input.process.arguments
	some i, argument in input.process.arguments
	host_namespace(i, argument, "pid")
	message := sprintf("%s gave a container all privileges and all processes of the machine", [input.behaviour.program])
}

violation contains message if {
	input.behaviour.program == "nsenter"
	first_process
	message := "nsenter entered the namespaces of the machine's first process"
}

starts_container if {
	input.behaviour.program in {"docker", "podman", "nerdctl"}
	some argument in array.slice(input.process.arguments, 1, 4)
	argument in {"run", "create"}
}

# The folders of the machine that are the machine, each with how it is mounted.
root_mounts contains [source, mode] if {
	some i, argument in input.process.arguments
	value := value_of(i, argument, {"-v", "--volume"})
	parts := split(value, ":")
	source := parts[0]
	source in {"/", "/etc", "/etc/", "/root", "/root/", "/proc", "/boot"}
	mode := concat(":", array.slice(parts, 2, count(parts)))
}

root_mounts contains [source, mode] if {
	some i, argument in input.process.arguments
	value := value_of(i, argument, {"--mount"})
	fields := split(value, ",")
	some field in fields
	some source in {"/", "/etc", "/root", "/proc", "/boot"}
	field in {sprintf("source=%s", [source]), sprintf("src=%s", [source])}
	mode := concat(",", [f | some f in fields; f in {"readonly", "ro"}])
}

value_of(i, argument, options) := input.process.arguments[i + 1] if argument in options

value_of(_, argument, options) := substring(argument, count(option) + 1, -1) if {
	some option in options
	startswith(argument, sprintf("%s=", [option]))
}

host_namespace(i, argument, kind) if {
	argument == sprintf("--%s", [kind])
	input.process.arguments[i + 1] == "host"
}

host_namespace(_, argument, kind) if argument == sprintf("--%s=host", [kind])

first_process if {
	some i, argument in input.process.arguments
	argument in {"-t", "--target", "-at", "-mt"}
	input.process.arguments[i + 1] == "1"
}

first_process if {
	some argument in input.process.arguments
	argument in {"-t1", "--target=1", "-at1"}
}

severities(mode) := "medium" if regex.match(`(^|,|:)(ro|readonly)`, mode)

severities(mode) := "high" if not regex.match(`(^|,|:)(ro|readonly)`, mode)
