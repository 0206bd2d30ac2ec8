# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Who started a process
# description: >-
#   What several policies ask of a process and its ancestors. It is no policy: it is
#   compiled with each of them.
package sallyport.lineage

# The last name of a path.
base(name) := last if {
	parts := split(name, "/")
	last := parts[count(parts) - 1]
}

# The names by which people know a process: its executable, its script, and the first of
# its arguments, without versions and extensions (node /usr/bin/npm ci, python3 -m pip).
names(process) := {name |
	some word in array.concat([process.executable, process.script], array.slice(process.arguments, 0, 3))
	name := regex.replace(base(word), `(-?[0-9][0-9.]*)?(\.(js|cjs|mjs|py|exe|cmd))?$`, "")
	name != ""
}

# Those of the behaviour's process, and what it runs: worked out once for all policies.
called := names(input.process)

running := programs(input.process)

# The names of what a process runs: its executable and, of an interpreter, its script. What
# stands further behind may be a file that the program only copies or looks at.
programs(process) := {name |
	some word in array.concat([process.executable, process.script], script_of(process))
	name := regex.replace(base(word), `(\.(js|cjs|mjs|py|sh|exe|cmd))? ?(\(deleted\))?$`, "")
	name != ""
}

script_of(process) := [word |
	some i, word in array.slice(process.arguments, 0, 2)
	script_at(process, i, word)
]

script_at(_, 0, _)

script_at(process, 1, word) if {
	not startswith(word, "-")
	interpreter := regex.replace(base(process.executable), `[0-9.]+$`, "")
	some _, known in data.sallyport.lists.interpreters
	interpreter in known
}

# A package manager that installs: what it starts is code of packages.
installs(process) if {
	some name in names(process)
	some argument in process.arguments
	argument in data.sallyport.lists.package_managers[name]
}

installs(process) if {
	some name in names(process)
	name in {"yarn", "pnpm"}
	every argument in array.slice(process.arguments, 1, count(process.arguments)) {
		regex.match(`^-|(^|/)(yarn|pnpm)[^/]*$`, argument)
	}
}

# The package manager that started the process, directly or not.
installer := name if {
	found := [p | some p in input.ancestry; installs(p)]
	name := concat(" ", array.slice(found[0].arguments, 0, 4))
}

below_installer if installer

# Where a machine keeps its own programs.
system_program if {
	some folder in data.sallyport.lists.process_tools.directories
	startswith(input.process.executable, folder)
}

# Where everybody may put a program.
in_scratch(file) if regex.match(`^(/tmp/|/var/tmp/|/dev/shm/|/run/user/|/run/shm/)`, file)

# All that a process was told, as one text.
command(process) := concat(" ", process.arguments)

told := command(input.process)

# Ends a sentence on something new with what opened learning again.
because := sprintf(" (%s)", [input.baseline.reopened]) if input.baseline.reopened != ""

because := "" if input.baseline.reopened == ""

# New against a stable baseline.
new if {
	input.baseline.stable
	not input.baseline.known
}

# Known, but not of this program.
new if {
	input.baseline.stable
	input.baseline.known
	not input.baseline.program_known
}

# The severity of something new: low where learning was opened again.
weigh(severity) := severity if input.baseline.reopened == ""

weigh(_) := "low" if input.baseline.reopened != ""
