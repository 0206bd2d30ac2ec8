# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: What an interpreter runs
# description: >-
#   Whether the program at the reading end of a pipe is an interpreter that runs what it
#   reads. It is no policy: it is compiled with those that ask it.
package sallyport.interpreter

# The language in which what is read is run.
runs contains language if {
	some language in languages
	runs_what_it_reads(language)
}

languages contains language if {
	some language, names in data.sallyport.lists.interpreters
	some name in {input.behaviour.target, executable}
	without_version := regex.replace(name, `[0-9.]+$`, "")
	some candidate in {name, without_version}
	candidate in names
}

executable := name if {
	parts := split(input.behaviour.target_executable, "/")
	name := parts[count(parts) - 1]
}

arguments := array.slice(input.behaviour.target_arguments, 1, count(input.behaviour.target_arguments))

# Process substitution: the pipe is the script.
runs_what_it_reads(_) if {
	some argument in positional
	startswith(argument, "/dev/fd/")
}

runs_what_it_reads(_) if "/dev/stdin" in positional

runs_what_it_reads(_) if "/proc/self/fd/0" in positional

runs_what_it_reads("shell") if {
	some argument in arguments
	regex.match(`^-[a-zA-Z]*s[a-zA-Z]*$`, argument)
	not given_code("shell")
}

runs_what_it_reads(language) if {
	not given_code(language)
	count(positional) == 0
}

# What is neither an option nor the value of one. "-" means standard input.
positional contains argument if {
	some i, argument in arguments
	argument != ""
	argument != "-"
	not startswith(argument, "-")
	not startswith(argument, "+")
	not value_of_option(i)
}

value_of_option(i) if {
	i > 0
	regex.match(`^([-+][a-zA-Z]*[oO]|-W|-X|-r|--require|--import|--rcfile|--init-file|-I)$`, arguments[i - 1])
}

code := {
	"shell": `^-[a-zA-Z]*c[a-zA-Z]*$`,
	"python": `^-[bBdEiIOPqsSuvx]*[cm]`,
	"perl": `^-[acilnpswF0-9]*[eE]`,
	"ruby": `^-[acilnpsw0-9]*e`,
	"javascript": `^(-e|-p|-pe|--eval|--print|--eval=.*|--print=.*)$`,
	"php": `^-[rBRE]`,
	"lua": `^-e`,
	"powershell": `^(?i)-(c|command|e|ec|encodedcommand|f|file)$`,
}

given_code(language) if {
	some argument in arguments
	regex.match(code[language], argument)
}
