package sallyport.policies.new_endpoint_test

import data.sallyport.policies.new_endpoint

egress(scope, stable, known) := {
	"version": 1,
	"behaviour": {"kind": "egress", "program": "curl", "target": "evil.example.test", "domain": "evil.example.test", "address": "203.0.113.9", "address_scope": scope, "port": 443, "protocol": "tcp"},
	"baseline": {"stable": stable, "known": known, "runs": 5, "reopened": ""},
}

test_new_endpoint_of_a_stable_job_is_caught if {
	count(new_endpoint.violation) == 1 with input as egress("public", true, false)
}

test_private_address_is_caught if {
	count(new_endpoint.violation) == 1 with input as egress("private", true, false)
}

test_known_endpoint_is_clean if {
	count(new_endpoint.violation) == 0 with input as egress("public", true, true)
}

test_learning_is_clean if {
	count(new_endpoint.violation) == 0 with input as egress("public", false, false)
}

test_loopback_is_clean if {
	count(new_endpoint.violation) == 0 with input as egress("loopback", true, false)
}

test_exec_is_clean if {
	count(new_endpoint.violation) == 0 with input as {"behaviour": {"kind": "exec"}, "baseline": {"stable": true, "known": false}}
}

test_bumped_action_is_low if {
	bumped := object.union(egress("public", true, false), {"baseline": {"reopened": "acme/deploy went from v1 to v2"}})
	some violation in new_endpoint.violation with input as bumped
	violation.severity == "low"
	endswith(violation.message, "(acme/deploy went from v1 to v2)")
}
