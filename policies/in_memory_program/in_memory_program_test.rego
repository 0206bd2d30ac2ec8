package sallyport.policies.in_memory_program_test

import data.sallyport.policies.in_memory_program

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

memory(ancestry, known) := object.union(run(["kworker"], ancestry), {
	"process": {"executable": "/memfd:x (deleted)", "executable_in_memory": true, "executable_deleted": true}, "baseline": {"known": known},
})

test_program_in_memory_is_caught if {
	some violation in in_memory_program.violation with input as memory([["python3", "x.py"]], false)
	violation.severity == "high"
}

test_program_that_was_removed_is_caught if {
	given := object.union(run(["x"], []), {"process": {"executable": "/tmp/x (deleted)", "executable_deleted": true}, "baseline": {"known": false}})
	some violation in in_memory_program.violation with input as given
	violation.severity == "medium"
}

test_container_engine_is_clean if {
	count(in_memory_program.violation) == 0 with input as memory([["runc", "init"]], false)
}

test_known_tool_is_clean if {
	count(in_memory_program.violation) == 0 with input as memory([["make"]], true)
}

test_programs_on_disk_are_clean if {
	count(in_memory_program.violation) == 0 with input as run(["go", "test"], [])
}
