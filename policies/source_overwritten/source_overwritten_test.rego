package sallyport.policies.source_overwritten_test

import data.sallyport.policies.source_overwritten

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

change(arguments, operation, file) := stable(touch(arguments, operation, sprintf("~/work/shop/shop/%s", [file]), "source_file", "source", []))

test_change_by_others_is_caught if {
	every operation in ["written", "entered", "left"] {
		count(source_overwritten.violation) == 1 with input as change(["cp", "/tmp/x.cs", "Inventory.cs"], operation, "Inventory.cs")
	}
}

test_another_program_than_the_generator_is_caught if {
	given := object.union(change(["python3", "x.py"], "written", "api.pb.go"), {"baseline": {"known": true}})
	count(source_overwritten.violation) == 1 with input as given
}

test_generator_of_clean_runs_is_clean if {
	count(source_overwritten.violation) == 0 with input as known(change(["python3", "generate.py"], "written", "api.py"))
}

test_formatters_and_package_managers_are_clean if {
	every program in ["gofmt", "prettier", "black", "npm", "cargo", "protoc", "git"] {
		count(source_overwritten.violation) == 0 with input as change([program], "written", "a.go")
	}
}

test_learning_is_clean if {
	count(source_overwritten.violation) == 0 with input as touch(["cp"], "written", "~/work/shop/shop/x.c", "source_file", "source", [])
}

test_text_is_low if {
	some violation in source_overwritten.violation with input as change(["cp", "x"], "written", "README.md")
	violation.severity == "low"
}
