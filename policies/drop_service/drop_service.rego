# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Place to drop data
# description: >-
#   A step contacts a place where data can be left for somebody whom nobody knows,
#   or where instructions can be fetched: request catchers, paste services, file
#   drops, tunnels, bots of messengers, block chains (list drop_services). Quiet
#   where a clean run of the job did the same.
# custom:
#   class: threat
#   kinds: [egress, lookup]
#   severity: high
#   technique: T1567
#   also: [T1102.001, T1090, T1572]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. If the
#     job is meant to contact it, approve it.
package sallyport.policies.drop_service

import data.sallyport.hosts

violation contains {"message": message, "severity": severity} if {
	input.behaviour.kind == "egress"
	not input.baseline.known
	some name in hosts.names
	about := hosts.entry(name, data.sallyport.lists.drop_services.domains)
	severity := severities(about.kind)
	message := sprintf("%s contacted %s, a %s: %s", [input.behaviour.program, name, about.kind, about.source])
}

# Data leaves in the name itself; nothing needs to be sent to the catcher.
violation contains {"message": message, "severity": "high"} if {
	input.behaviour.kind == "lookup"
	input.behaviour.encoded_names > 0
	some name in hosts.names
	about := hosts.entry(name, data.sallyport.lists.drop_services.domains)
	about.kind == "request catcher"
	message := sprintf("%s asked for names with data in them below %s, a request catcher", [input.behaviour.program, input.behaviour.target])
}

# What is used in good faith, too.
severities(kind) := "medium" if kind in {"chat bot", "block chain", "tunnel"}

severities(kind) := "high" if not kind in {"chat bot", "block chain", "tunnel"}
