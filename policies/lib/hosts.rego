# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Names of hosts
# description: >-
#   Looks names of hosts up in lists. It is no policy: it is compiled with those that
#   ask it.
package sallyport.hosts

# The names that the behaviour has for the host: the one looked up and the one that the
# client gave in TLS.
names contains lower(name) if {
	some name in [input.behaviour.domain, input.behaviour.server_name]
	name != ""
}

# A name and the domains above it, the nearest first.
above(name) := [concat(".", array.slice(parts, i, n)) |
	parts := split(name, ".")
	n := count(parts)
	some i in numbers.range(0, n - 1)
]

# What a list holds of a name or of a domain above it, the nearest first.
entry(name, list) := found[0] if {
	found := [about |
		some domain in above(name)
		about := list[domain]
	]
}
