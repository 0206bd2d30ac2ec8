# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Way round the masking of secrets
# description: >-
#   A program changes a text in a way that has no use but to get it past the masking
#   of the log: base64 of base64, a space after each letter, a secret's variable
#   piped into an encoder. tj-actions printed secrets into public logs as base64 of
#   base64.
# custom:
#   class: threat
#   kinds: [pipe, exec]
#   severity: medium
#   technique: T1027
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Delete
#     the logs of the run; on a public repository they are read within minutes.
package sallyport.policies.masked_secret_printed

import data.sallyport.lineage

violation contains message if {
	input.behaviour.kind == "pipe"
	input.behaviour.program in encoders
	lineage.base(input.behaviour.target_executable) == input.behaviour.program
	encodes(input.process.arguments)
	encodes(input.behaviour.target_arguments)
	message := sprintf("a text was encoded twice by %s, which only hides it from the masking of the log", [input.behaviour.program])
}

violation contains message if {
	input.behaviour.kind == "exec"
	input.behaviour.program == "sed"
	some argument in input.process.arguments
	argument in {"s/./& /g", "s/\\(.\\)/\\1 /g", "s/./&-/g", "s/./&_/g", "s/./&\\n/g", "s/./&./g"}
	message := "sed put something after each letter of a text, which only hides it from the masking of the log"
}

violation contains message if {
	input.behaviour.kind == "pipe"
	input.behaviour.program == "printenv"
	some argument in input.process.arguments
	regex.match(`(?i)(token|secret|passw|private|api_?key|credential)`, argument)
	lineage.base(input.behaviour.target_executable) in {"base64", "base32", "xxd", "rev", "od", "hexdump"}
	not input.baseline.known
	message := sprintf("the variable %s was piped into %s", [argument, input.behaviour.target])
}

encoders := {"base64", "base32", "basenc"}

encodes(arguments) if {
	every argument in arguments {
		not regex.match(`^(-[a-z]*[dD].*|--decode)$`, argument)
	}
}
