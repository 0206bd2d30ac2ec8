# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Home folder wiped
# description: >-
#   A step removes a whole home folder or the whole machine, or overwrites files so
#   that nobody can restore them. Shai-Hulud 2.0 did so where it found nothing to
#   steal.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: high
#   technique: T1485
#   also: [T1561]
#   remediation: >-
#     Replace the runner. Look at what ran before: who wipes has tried something
#     else first.
package sallyport.policies.home_wiped

import data.sallyport.lineage

violation contains message if {
	input.behaviour.program == "rm"
	some option in input.process.arguments
	regex.match(`^(-[a-zA-Z]*[rR][a-zA-Z]*|--recursive)$`, option)
	some argument in array.slice(input.process.arguments, 1, count(input.process.arguments))
	regex.match(`^(/|/\*|~/?|/root/?|/root/\*|/home/?|/home/\*|/home/[^/*]+/?|/home/[^/]+/\*|/etc/?|/usr/?|/var/?|--no-preserve-root)$`, argument)
	message := sprintf("rm was told to remove %s", [argument])
}

violation contains message if {
	input.behaviour.program == "find"
	regex.match(`^(/|~|/root|/home(/[^/]+)?)/?$`, input.process.arguments[1])
	some i, argument in input.process.arguments
	wipes(i, argument)
	not narrow
	message := sprintf("find was told to remove what is below %s", [input.process.arguments[1]])
}

wipes(_, "-delete")

wipes(i, argument) if {
	argument in {"-exec", "-execdir"}
	lineage.base(input.process.arguments[i + 1]) in {"rm", "shred", "wipe", "unlink"}
}

narrow if {
	some argument in input.process.arguments
	argument in {"-name", "-iname", "-path", "-mtime", "-mmin", "-regex", "-newer", "-empty", "-xtype"}
}
