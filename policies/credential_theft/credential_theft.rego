# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Credential file copied out
# description: >-
#   A program that does not own a credential file reads it by name to copy, encode
#   or send it (cat, base64, tar, curl, an inline script), or code of a package
#   reads it while the package is installed. Quiet where the same program did so in
#   a clean run of the job.
# custom:
#   class: threat
#   kinds: [file]
#   severity: high
#   technique: T1552.001
#   also: [T1552.004, T1528, T1555, T1005]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. First
#     the one that the finding names. The ancestry says which action or package read
#     it.
package sallyport.policies.credential_theft

import data.sallyport.lineage

violation contains {"message": message, "severity": "critical"} if {
	reads
	not owner
	installer := lineage.installer
	not input.behaviour.rule in {"package_registry_credentials", "shell_history", "git_config_token"}
	message := sprintf("%s, started by %s, read %s", [input.behaviour.program, installer, input.behaviour.target])
}

violation contains message if {
	reads
	not owner
	carrier
	names_it
	not input.behaviour.rule in {"git_config_token"}
	message := sprintf("%s read %s, which belongs to other programs (%s)", [input.behaviour.program, input.behaviour.target, input.behaviour.rule])
}

reads if {
	input.behaviour.category == "credential"
	input.behaviour.operation == "read"
	not quiet
}

quiet if {
	input.baseline.known
	input.baseline.program_known
}

owner if input.behaviour.program in data.sallyport.lists.credential_owners[input.behaviour.rule]

carrier if input.behaviour.program in {
	"awk", "base32", "base64", "cat", "cp", "curl", "dd", "gawk", "grep", "gpg", "gzip", "head", "hexdump", "less", "mawk", "mv", "nc", "ncat", "od", "openssl",
	"rsync", "scp", "sed", "socat", "strings", "tail", "tar", "tee", "wget", "xxd", "zip", "7z",
}

carrier if input.process.executable_in_memory

carrier if {
	some i, argument in input.process.arguments
	i in {1, 2, 3}
	regex.match(`^(-[a-zA-Z]*c|-e|--eval)$`, argument)
	input.behaviour.program != "gpg"
}

# Its name, or its folder's, stands in the command line.
names_it if {
	parts := split(input.behaviour.target, "/")
	some part in array.slice(parts, max({0, count(parts) - 3}), count(parts))
	not part in {"~", "root", "home", "runner", "etc", "config", "serviceaccount", "secrets", ""}
	literal := split(part, "{")[0]
	count(literal) >= 4
	contains(lineage.told, literal)
}

names_it if {
	input.behaviour.target in {"/etc/shadow", "/etc/gshadow"}
	contains(lineage.told, "shadow")
}
