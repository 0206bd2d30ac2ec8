# METADATA
# title: Which actions may be used
# description: >-
#   Judges one use of an action. The input has today (YYYY-MM-DD); action (name, repository,
#   ref, version, pinned, known, archived, incidents: what the catalogue of sallyport harden
#   knows); and, if somebody decided about it, approval (action, deny, versions, in_range,
#   owner, reviewer, reason, until).
package sallyport.actions

violation contains sprintf("%s is not approved: ask for it, or use what is", [input.action.name]) if not input.approval

violation contains sprintf("%s is denied by %s: %s", [input.action.name, input.approval.owner, input.approval.reason]) if input.approval.deny

violation contains sprintf("%s: its approval by %s ended on %s", [input.action.name, input.approval.owner, input.approval.until]) if {
	not input.approval.deny
	input.approval.until != ""
	input.approval.until < input.today
}

violation contains sprintf("%s is approved in versions %s, and this is %s", [input.action.name, input.approval.versions, version]) if {
	not input.approval.deny
	not input.approval.in_range
}

version := input.action.version if input.action.version != ""

version := "none that is known" if input.action.version == ""
