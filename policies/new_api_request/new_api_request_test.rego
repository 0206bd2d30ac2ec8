package sallyport.policies.new_api_request_test

import data.sallyport.policies.new_api_request

request(method, path, stable, known) := {
	"behaviour": {"kind": "request", "program": "gh", "target": "api.github.com", "method": method, "path": path},
	"baseline": {"stable": stable, "known": known, "program_known": known, "reopened": ""},
}

test_new_change_is_caught if {
	count(new_api_request.violation) == 1 with input as request("POST", "/repos/acme/shop/releases", true, false)
}

test_known_change_is_clean if {
	count(new_api_request.violation) == 0 with input as request("POST", "/repos/acme/shop/releases", true, true)
}

test_learning_and_reading_are_clean if {
	count(new_api_request.violation) == 0 with input as request("POST", "/repos/acme/shop/releases", false, false)
	count(new_api_request.violation) == 0 with input as request("GET", "/repos/acme/shop/releases", true, false)
}
