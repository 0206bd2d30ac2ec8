# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Known bad program
# description: >-
#   A program runs whose file has a digest that is known from an attack: list
#   known_bad_digests. A digest that becomes known only after the program has
#   started is looked at with the next thing that it does.
# custom:
#   class: threat
#   kinds: [exec, egress, file, process_access, request, privilege, survivor]
#   severity: critical
#   technique: T1204.002
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Find out
#     from the ancestry what brought the file.
package sallyport.policies.known_bad_digest

violation contains message if {
	some process in array.concat([input.process], input.ancestry)
	about := data.sallyport.lists.known_bad_digests[process.executable_sha256]
	message := sprintf("%s is %s (%s)", [process.executable, about.name, about.source])
}
