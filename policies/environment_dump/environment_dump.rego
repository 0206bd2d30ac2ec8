# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Environment handed on
# description: >-
#   The environment of a step, which holds its secrets, is packed or sent: env piped
#   into an encoder or a sender, or a request whose arguments hold many variables.
#   This is how the Codecov uploader stole secrets.
# custom:
#   class: threat
#   kinds: [pipe, exec]
#   severity: high
#   technique: T1552
#   also: [T1041, T1048]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Pin what
#     the step downloads or uses, and look at where the program sent (the run's
#     egress).
package sallyport.policies.environment_dump

import data.sallyport.lineage

violation contains message if {
	input.behaviour.kind == "pipe"
	prints_environment
	some name in {input.behaviour.target, lineage.base(input.behaviour.target_executable)}
	name in carriers
	message := sprintf("the whole environment was piped into %s", [name])
}

violation contains message if {
	input.behaviour.kind == "exec"
	sender
	variables := {name |
		some name in known_variables
		regex.match(sprintf(`(^|[^A-Z_])%s=`, [name]), lineage.told)
	}
	count(variables) >= 3
	message := sprintf("%s was given the environment to send (%s)", [input.behaviour.program, concat(", ", variables)])
}

violation contains message if {
	input.behaviour.kind == "exec"
	sender
	secrets := regex.find_n(`\[redacted[^\]]*\]`, lineage.told, -1)
	count({s | some s in secrets}) >= 3
	message := sprintf("%s was given %d secrets to send", [input.behaviour.program, count({s | some s in secrets})])
}

prints_environment if {
	input.behaviour.program in {"env", "printenv"}
	count(input.process.arguments) <= 2
	every argument in array.slice(input.process.arguments, 1, count(input.process.arguments)) {
		argument in {"-0", "--null"}
	}
}

prints_environment if {
	input.behaviour.program in {"cat", "tr", "strings", "xargs"}
	some argument in input.process.arguments
	regex.match(`^/proc/(self|[0-9]+|\*)/environ$`, argument)
}

carriers := {"base64", "base32", "gzip", "xz", "zstd", "openssl", "gpg", "xxd", "od", "curl", "wget", "nc", "ncat", "netcat", "socat", "age", "bzip2", "hexdump", "basenc", "rev"}

sender if input.behaviour.program in data.sallyport.lists.downloaders

known_variables := {
	"PATH", "HOME", "PWD", "SHLVL", "USER", "LANG", "HOSTNAME", "GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_REF", "GITHUB_ACTOR",
	"GITHUB_WORKSPACE", "RUNNER_TEMP", "RUNNER_OS", "RUNNER_NAME", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "AWS_SECRET_ACCESS_KEY",
}
