package sallyport.policies.runner_files_test

import data.sallyport.policies.runner_files

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

test_reads_and_writes_are_caught if {
	every file in [".runner", ".credentials", ".credentials_rsaparams"] {
		every operation in ["read", "written", "entered", "left"] {
			count(runner_files.violation) == 1 with input as touch(["python3", "x.py"], operation, sprintf("/opt/actions-runner/%s", [file]), "runner_credentials", "runner", [])
		}
	}
}

test_runner_itself_is_clean if {
	given := object.union(touch(["Runner.Worker"], "read", "/opt/actions-runner/.credentials", "runner_credentials", "runner", []), {"process": {"executable": "/opt/actions-runner/bin/Runner.Worker"}, "job": {"step": ""}})
	count(runner_files.violation) == 0 with input as given
}

test_program_named_like_the_runner_is_caught if {
	given := object.union(touch(["Runner.Worker"], "read", "/opt/actions-runner/.credentials", "runner_credentials", "runner", []), {"job": {"step": "build"}})
	count(runner_files.violation) == 1 with input as given
}

test_project_file_of_that_name_is_clean if {
	count(runner_files.violation) == 0 with input as touch(["git", "checkout"], "entered", "~/work/shop/shop/test/.credentials", "runner_credentials", "runner", [])
}

test_other_files_are_clean if {
	count(runner_files.violation) == 0 with input as touch(["cat", "x"], "read", "~/.aws/credentials", "aws_credentials", "credential", [])
}
