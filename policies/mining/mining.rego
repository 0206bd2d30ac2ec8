# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Mining
# description: >-
#   A program that mines coins: by its name, by arguments that only miners take, or
#   by the pool that it contacts (list mining). The runner works for somebody else.
# custom:
#   class: threat
#   kinds: [exec, egress, lookup]
#   severity: high
#   technique: T1496
#   remediation: >-
#     Stop the run, find out from the ancestry what started the program, and remove
#     the action or package that brought it. Mining comes after somebody could run
#     code in the job: treat its secrets as known to others.
package sallyport.policies.mining

import data.sallyport.hosts
import data.sallyport.lineage

violation contains message if {
	input.behaviour.kind == "exec"
	some name in lineage.running
	lower(name) in data.sallyport.lists.mining.programs
	message := sprintf("%s is a program that mines coins", [name])
}

violation contains message if {
	input.behaviour.kind == "exec"
	line := lineage.told
	some mark in data.sallyport.lists.mining.arguments
	contains(line, mark) # seldom: what follows costs more
	contains(line, concat("", [" ", mark]))
	not packaging
	message := sprintf("%s was started with %s, as a program that mines coins", [input.behaviour.program, mark])
}

violation contains message if {
	input.behaviour.kind in {"egress", "lookup"}
	some name in hosts.names
	hosts.entry(name, data.sallyport.lists.mining.domains)
	message := sprintf("%s reached for %s, a pool of miners", [input.behaviour.program, name])
}

# Programs that look at a file or a text rather than run it.
packaging if input.behaviour.program in {"apt-get", "cat", "cmake", "chmod", "cp", "curl", "echo", "find", "git", "grep", "ls", "make", "mv", "rg", "rm", "sed", "tar", "wget"}
