package sallyport.policies.git_config_token_read_test

import data.sallyport.policies.git_config_token_read

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

touch(arguments, operation, path, rule, category, ancestry) := {
	"behaviour": {"kind": "file", "program": arguments[0], "target": path, "operation": operation, "rule": rule, "category": category},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": false, "known": false, "program_known": false, "reopened": "", "runs": 0},
}

known(given) := object.union(given, {"baseline": {"stable": true, "known": true, "program_known": true}})

stable(given) := object.union(given, {"baseline": {"stable": true, "runs": 5}})

config := "~/work/shop/shop/.git/config"

read(arguments, ancestry) := touch(arguments, "read", config, "git_config_token", "credential", ancestry)

test_thieves_are_caught if {
	every arguments in [["cat", ".git/config"], ["grep", "-oP", "AUTHORIZATION: basic \\K.*", ".git/config"], ["python3", "-c", "print(open('.git/config').read())"]] {
		count(git_config_token_read.violation) == 1 with input as read(arguments, [])
	}
	count(git_config_token_read.violation) == 1 with input as read(["node", "bundle.js"], [["npm", "ci"]])
}

test_artifact_with_the_token_is_caught if {
	count(git_config_token_read.violation) == 1 with input as object.union(read(["node", "dist/index.js"], []), {"job": {"action": "actions/upload-artifact@v4"}})
}

test_checkout_itself_is_clean if {
	count(git_config_token_read.violation) == 0 with input as object.union(read(["node", "dist/index.js"], []), {"job": {"action": "actions/checkout@v4"}})
}

test_builds_are_clean if {
	every arguments in [["java", "-jar", "gradle.jar"], ["grep", "-r", "TODO", "."], ["docker", "build", "."], ["turbo", "run", "build"], ["sonar-scanner"], ["git", "status"]] {
		count(git_config_token_read.violation) == 0 with input as read(arguments, [])
	}
	count(git_config_token_read.violation) == 0 with input as read(["npm", "ci"], [])
}

test_known_reader_is_clean if {
	count(git_config_token_read.violation) == 0 with input as known(read(["cat", ".git/config"], []))
}
