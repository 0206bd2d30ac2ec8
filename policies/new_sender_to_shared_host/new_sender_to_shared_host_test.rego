package sallyport.policies.new_sender_to_shared_host_test

import data.sallyport.policies.new_sender_to_shared_host

egress(name, known, program_known) := {
	"behaviour": {"kind": "egress", "program": "curl", "domain": name, "server_name": "", "target": name, "port": 443},
	"baseline": {"stable": true, "known": known, "program_known": program_known, "reopened": ""},
}

test_new_program_at_a_known_shared_host_is_caught if {
	count(new_sender_to_shared_host.violation) == 1 with input as egress("api.github.com", true, false)
	count(new_sender_to_shared_host.violation) == 1 with input as egress("acme.s3.eu-west-1.amazonaws.com", true, false)
}

test_program_that_always_did_is_clean if {
	count(new_sender_to_shared_host.violation) == 0 with input as egress("api.github.com", true, true)
}

test_own_host_is_clean if {
	count(new_sender_to_shared_host.violation) == 0 with input as egress("api.acme.example.test", true, false)
}

test_new_host_is_left_to_new_endpoint if {
	count(new_sender_to_shared_host.violation) == 0 with input as egress("api.github.com", false, false)
}

test_learning_is_clean if {
	given := json.patch(egress("api.github.com", true, false), [{"op": "replace", "path": "/baseline/stable", "value": false}])
	count(new_sender_to_shared_host.violation) == 0 with input as given
}

test_bumped_action_is_low if {
	given := json.patch(egress("api.github.com", true, false), [{"op": "replace", "path": "/baseline/reopened", "value": "acme/deploy went from v1 to v2"}])
	some violation in new_sender_to_shared_host.violation with input as given
	violation.severity == "low"
}
