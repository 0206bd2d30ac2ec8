package sallyport.policies.masked_secret_printed_test

import data.sallyport.policies.masked_secret_printed

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
	"behaviour": {"kind": "pipe", "program": writer[0], "target": reader[0], "target_executable": sprintf("/usr/bin/%s", [reader[0]]), "target_arguments": reader},
	"process": process(writer), "ancestry": [], "baseline": {"known": false},
}

test_ways_round_are_caught if {
	count(masked_secret_printed.violation) == 1 with input as pipe(["base64", "-w", "0"], ["base64", "-w", "0"])
	count(masked_secret_printed.violation) == 1 with input as pipe(["printenv", "DEPLOY_TOKEN"], ["base64"])
	count(masked_secret_printed.violation) == 1 with input as run(["sed", "s/./& /g"], [])
}

test_encoding_once_is_clean if {
	count(masked_secret_printed.violation) == 0 with input as pipe(["cat", "x"], ["base64", "-w0"])
	count(masked_secret_printed.violation) == 0 with input as pipe(["base64", "-d"], ["base64"])
	count(masked_secret_printed.violation) == 0 with input as pipe(["base64"], ["base64", "-d"])
	count(masked_secret_printed.violation) == 0 with input as pipe(["printenv", "VERSION"], ["base64"])
}

test_other_sed_is_clean if {
	count(masked_secret_printed.violation) == 0 with input as run(["sed", "-i", "s/./x/g", "file"], [])
}
