# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Shell at the end of a connection
# description: >-
#   A shell or an interpreter whose standard input and output are one socket, or a
#   command line that makes one: /dev/tcp, nc -e, socat exec. Somebody outside types
#   commands on the runner.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: critical
#   technique: T1059.004
#   also: [T1095, T1059.006]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Stop the
#     job; find out from the ancestry what started the shell, and to whom it was
#     connected (table flows).
package sallyport.policies.reverse_shell

import data.sallyport.lineage

violation contains message if {
	input.process.standard_input.kind == "socket"
	input.process.standard_output.kind == "socket"
	input.process.standard_input.inode == input.process.standard_output.inode
	input.process.standard_input.inode != 0
	some name in lineage.called
	some language, programs in data.sallyport.lists.interpreters
	language != "javascript"
	name in programs
	not remote_login
	message := sprintf("%s reads its commands from a socket and answers on it", [name])
}

violation contains message if {
	name := connector
	some i, argument in input.process.arguments
	i > 0
	regex.match(`^(-[a-zA-Z]*[ec]|--exec|--sh-exec)$`, argument)
	regex.match(`(^|/)(ba|da|z|k|a|)sh$|(^|/)(cmd|powershell|pwsh)`, input.process.arguments[i + 1])
	message := sprintf("%s gives a shell to whoever is at the other end (%s)", [name, argument])
}

violation contains message if {
	input.behaviour.program in {"socat", "socat1"}
	some argument in input.process.arguments
	regex.match(`(?i)^(exec|system):["']?[^,]*(sh|python[0-9.]*|perl)\b`, argument)
	some other in input.process.arguments
	regex.match(`(?i)^(tcp|tcp4|tcp6|udp|openssl|sctp|socks)[a-z0-9-]*:`, other)
	message := "socat joins a shell to a connection"
}

violation contains message if {
	some argument in input.process.arguments
	regex.match(`/dev/(tcp|udp)/`, argument)
	regex.match(`(>&|<&|<>|&>|0<|exec [0-9]+<>)`, argument)
	regex.match(`(sh|bash) +-i|0>&1|<&[0-9]|>&[0-9] *2>&[0-9]|while +read`, argument)
	some name in lineage.called
	name in data.sallyport.lists.interpreters.shell
	message := sprintf("%s was given a command line that joins a shell to /dev/tcp", [name])
}

violation contains message if {
	some argument in input.process.arguments
	regex.match(`socket.*connect.*(dup2\(|subprocess|pty\.spawn|exec *[{(]? *["'/]|fdopen)`, replace(argument, "\n", " "))
	some name in lineage.called
	some language in {"python", "perl", "ruby", "php"}
	name in data.sallyport.lists.interpreters[language]
	message := sprintf("%s was given a program that joins a shell to a connection", [name])
}

connector := input.behaviour.program if input.behaviour.program in {"nc", "ncat", "netcat", "nc.traditional", "nc.openbsd"}

# A login over SSH has its commands on a pair of sockets, too.
remote_login if {
	some process in array.slice(input.ancestry, 0, 3)
	lineage.base(process.executable) in {"sshd", "sshd-session", "dropbear", "inetd", "xinetd", "rsync", "git-daemon"}
}
