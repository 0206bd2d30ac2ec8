# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Data in questions for names
# description: >-
#   A step asks for many names that look like encoded data below one domain, or for
#   records that carry data (TXT, NULL) of many names. Secrets leave through the
#   resolver this way, past every firewall. Quiet where a clean run of the job asked
#   for the same kind of names.
# custom:
#   class: threat
#   kinds: [lookup]
#   severity: high
#   technique: T1048.003
#   also: [T1071.004, T1572]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Find out
#     from the ancestry which package or action asked.
package sallyport.policies.dns_tunnel

violation contains message if {
	input.behaviour.kind == "lookup"
	not input.baseline.known
	not reverse
	input.behaviour.encoded_names >= 8
	message := sprintf(
		"%s asked for %d or more names with what looks like data in them below %s",
		[input.behaviour.program, input.behaviour.encoded_names, input.behaviour.target],
	)
}

violation contains message if {
	input.behaviour.kind == "lookup"
	not input.baseline.known
	input.behaviour.question_type in {"TXT", "NULL", "CNAME", "MX", "KEY", "PRIVATE"}
	input.behaviour.names >= 16
	input.behaviour.encoded_names < 8
	message := sprintf(
		"%s asked for %s records of %d or more names below %s",
		[input.behaviour.program, input.behaviour.question_type, input.behaviour.names, input.behaviour.target],
	)
}

violation contains message if {
	input.behaviour.kind == "lookup"
	not input.baseline.known
	input.behaviour.question_type == "NULL"
	input.behaviour.names < 16
	message := sprintf("%s asked for a NULL record below %s, of which only tunnels know a use", [input.behaviour.program, input.behaviour.target])
}

reverse if input.behaviour.target in {"in-addr.arpa", "ip6.arpa"}
