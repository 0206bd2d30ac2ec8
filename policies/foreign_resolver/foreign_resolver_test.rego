package sallyport.policies.foreign_resolver_test

import data.sallyport.policies.foreign_resolver

facts(known) := {"stable": true, "known": known, "program_known": known, "reopened": ""}

lookup(scope, known) := {
	"behaviour": {"kind": "lookup", "program": "node", "target": "x.example.test", "address": "198.51.100.53", "address_scope": scope}, "baseline": facts(known),
}

egress(application, known) := {
	"behaviour": {"kind": "egress", "program": "node", "target": "resolver.example.test", "application": application}, "baseline": facts(known),
}

test_new_resolvers_are_caught if {
	count(foreign_resolver.violation) == 1 with input as lookup("public", false)
	count(foreign_resolver.violation) == 1 with input as egress("dns-over-https", false)
	count(foreign_resolver.violation) == 1 with input as egress("dns-over-tls", false)
}

test_own_resolvers_are_clean if {
	count(foreign_resolver.violation) == 0 with input as lookup("private", false)
	count(foreign_resolver.violation) == 0 with input as lookup("loopback", false)
	count(foreign_resolver.violation) == 0 with input as egress("tls", false)
}

test_known_resolvers_are_clean if {
	count(foreign_resolver.violation) == 0 with input as lookup("public", true)
	count(foreign_resolver.violation) == 0 with input as egress("dns-over-https", true)
}
