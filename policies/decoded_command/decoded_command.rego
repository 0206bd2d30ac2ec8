# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Decoded text run as a program
# description: >-
#   What a program decodes or unpacks is run by an interpreter without ever being a
#   file: base64 -d into a shell, xz -dc of a test file into a shell (as in xz 5.6),
#   python -c that decodes and runs, powershell -EncodedCommand. Text is encoded so
#   that readers of a workflow or of a package do not see what it does.
# custom:
#   class: threat
#   kinds: [pipe, exec]
#   severity: high
#   technique: T1140
#   also: [T1027, T1059.001]
#   remediation: >-
#     Decode the text and read it; the ancestry says which step or package brought
#     it. If nobody expects it, treat the secrets of the job as known to others.
package sallyport.policies.decoded_command

import data.sallyport.interpreter
import data.sallyport.lineage

violation contains message if {
	input.behaviour.kind == "pipe"
	input.behaviour.program in decoders
	not input.behaviour.writer_downloads
	decodes
	count(interpreter.runs) > 0
	message := sprintf("%s fed what it decoded to the interpreter %s", [input.behaviour.program, input.behaviour.target])
}

violation contains message if {
	input.behaviour.kind == "exec"
	some i in [1, 2, 3]
	regex.match(`^(-[a-zA-Z]*[ceEr]|--eval|-p)$`, input.process.arguments[i])
	some language, pattern in inline
	regex.match(pattern, input.process.arguments[i + 1])
	some name in lineage.called
	name in data.sallyport.lists.interpreters[language]
	message := sprintf("%s was given a program that decodes another one and runs it", [name])
}

violation contains message if {
	input.behaviour.kind == "exec"
	some i, argument in input.process.arguments
	regex.match(`(?i)^[-/](e|ec|enc|enco.*)$`, argument)
	regex.match(`^[A-Za-z0-9+/=]{40,}$`, input.process.arguments[i + 1])
	some name in lineage.called
	name in data.sallyport.lists.interpreters.powershell
	message := sprintf("%s was given an encoded command", [name])
}

decoders := {"base64", "base32", "openssl", "xxd", "gunzip", "zcat", "gzip", "xz", "xzcat", "lzma", "bunzip2", "bzip2", "bzcat", "uudecode", "basenc", "zstd", "tr", "rev"}

decodes if input.behaviour.program in {"gunzip", "zcat", "xzcat", "bunzip2", "bzcat", "uudecode", "rev"}

# Other letters for each, and not only some taken away.
decodes if {
	input.behaviour.program == "tr"
	every argument in input.process.arguments {
		not regex.match(`^-[a-zA-Z]*[ds]|^--(delete|squeeze)`, argument)
	}
}

decodes if {
	input.behaviour.program != "tr"
	some argument in input.process.arguments
	regex.match(`^(-[a-zA-Z0-9]*[dDr][a-zA-Z0-9]*|--decode|--decompress|--uncompress|-d)$`, argument)
}

inline := {
	"python": `(exec|eval|__import__) *\(.*(b64decode|b85decode|decompress|fromhex|marshal\.loads|codecs\.decode)`,
	"javascript": `(eval|Function|_compile|execSync|exec) *\(.*(['"]base64['"]|atob *\()`,
	"perl": `eval.*decode_base64`,
	"ruby": `eval.*(unpack|Base64)`,
	"php": `eval *\(.*(base64_decode|gzinflate|str_rot13)`,
}
