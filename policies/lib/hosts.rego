# METADATA
# scope: package
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

# What a list holds of a name or of a domain above it, the nearest first.
entry(name, list) := found[0] if {
	parts := split(name, ".")
	found := [about |
		some i in numbers.range(0, count(parts) - 1)
		about := list[concat(".", array.slice(parts, i, count(parts)))]
	]
}
