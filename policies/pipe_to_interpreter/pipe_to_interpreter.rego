# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Download piped into an interpreter
# description: >-
#   What a program downloads is run by an interpreter without ever being a file
#   that somebody could pin, check or look at later: curl into a shell, also
#   through sudo, through a decoder in between, or as bash <(curl ...). Programs
#   given to the interpreter otherwise (python3 -c, perl -e, a script file) that
#   only read the download as data are left alone. Wrong whatever the baseline says.
# custom:
#   class: threat
#   kinds: [pipe]
#   severity: medium
#   technique: T1059
#   remediation: >-
#     Download to a file, check its digest against one kept in the repository, then
#     run it. If nobody expects the download, treat the secrets of the job as known
#     to others.
package sallyport.policies.pipe_to_interpreter

import data.sallyport.interpreter

violation contains message if {
	input.behaviour.kind == "pipe"
	input.behaviour.writer_downloads
	count(interpreter.runs) > 0
	message := sprintf(
		"%s fed what it downloaded to the interpreter %s",
		[input.behaviour.program, input.behaviour.target],
	)
}
