package sallyport.policies.bare_address_test

import data.sallyport.policies.bare_address

base := {
	"behaviour": {"kind": "egress", "program": "bash", "target": "203.0.113.9", "domain": "", "address": "203.0.113.9", "address_scope": "public", "port": 8443, "protocol": "tcp"},
	"baseline": {"stable": false, "known": false, "runs": 0},
}

change(path, value) := json.patch(base, [{"op": "replace", "path": path, "value": value}])

test_public_address_is_caught_while_learning if {
	count(bare_address.violation) == 1 with input as base
}

test_public_address_is_caught_when_stable if {
	count(bare_address.violation) == 1 with input as change("/baseline/stable", true)
}

test_named_host_is_clean if {
	count(bare_address.violation) == 0 with input as change("/behaviour/domain", "registry.example.test")
}

test_address_of_earlier_clean_runs_is_clean if {
	count(bare_address.violation) == 0 with input as change("/baseline/known", true)
}

test_own_networks_are_clean if {
	every scope in ["loopback", "private", "link-local", "metadata"] {
		count(bare_address.violation) == 0 with input as change("/behaviour/address_scope", scope)
	}
}

test_resolver_is_clean if {
	count(bare_address.violation) == 0 with input as change("/behaviour/port", 53)
}
