package sallyport.policies.api_abuse_test

import data.sallyport.policies.api_abuse

request(method, path, known) := {
	"behaviour": {"kind": "request", "program": "node", "target": "api.github.com", "method": method, "path": path},
	"job": {"repository": "acme/shop"}, "baseline": {"stable": true, "known": known},
}

test_what_carries_out_or_stays_is_caught if {
	every path in [
		"/user/repos", "/orgs/acme/repos", "/gists", "/user/keys", "/repos/acme/shop/keys", "/repos/acme/shop/hooks", "/repos/acme/shop/actions/secrets/X",
		"/repos/acme/shop/contents/.github/workflows/x.yml", "/repos/acme/shop/collaborators/x", "/repos/evil/box/releases", "/repos/evil/box/contents/x", "/repos/evil/box/issues", "/repos/acme/shop",
	] {
		every method in ["POST", "PUT", "PATCH"] {
			count(api_abuse.violation) == 1 with input as request(method, path, false)
		}
	}
}

test_enterprise_server_is_caught if {
	given := json.patch(request("POST", "/api/v3/user/repos", false), [{"op": "replace", "path": "/behaviour/target", "value": "github.acme.example.test"}])
	count(api_abuse.violation) == 1 with input as given
}

test_ordinary_work_is_clean if {
	every path in [
		"/repos/acme/shop/releases", "/repos/acme/shop/issues/{n}/comments", "/repos/acme/shop/statuses/{hash}", "/repos/acme/shop/check-runs", "/repos/acme/shop/git/refs", "/repos/ACME/other/pulls",
		"/graphql", "/repos/acme/shop/dispatches", "/app/installations/{n}/access_tokens",
	] {
		count(api_abuse.violation) == 0 with input as request("POST", path, false)
	}
}

test_reading_is_clean if {
	every path in ["/user/repos", "/gists", "/repos/evil/box/releases"] {
		count(api_abuse.violation) == 0 with input as request("GET", path, false)
	}
}

test_known_requests_are_clean if {
	count(api_abuse.violation) == 0 with input as request("POST", "/repos/homebrew/tap/pulls", true)
}

test_other_hosts_are_clean if {
	given := json.patch(request("POST", "/gists", false), [{"op": "replace", "path": "/behaviour/target", "value": "api.example.test"}])
	count(api_abuse.violation) == 0 with input as given
}
