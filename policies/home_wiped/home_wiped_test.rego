package sallyport.policies.home_wiped_test

import data.sallyport.policies.home_wiped

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

test_wipes_are_caught if {
	every arguments in [
		["rm", "-rf", "/home/runner"], ["rm", "-rf", "/"], ["rm", "-r", "-f", "/root/"], ["find", "/home/runner", "-type", "f", "-writable", "-exec", "shred", "-uvz", "-n", "1", "{}", "+"], ["find", "/home", "-delete"],
	] {
		count(home_wiped.violation) > 0 with input as run(arguments, [])
	}
}

test_cleaning_is_clean if {
	every arguments in [
		["rm", "-rf", "/home/runner/work/shop/shop/dist"], ["rm", "-rf", "/usr/share/dotnet", "/opt/ghc"], ["rm", "-rf", "/home/runner/.cache"], ["rm", "-f", "/home/x"], ["rm", "-rf", "/tmp/x"],
		["find", ".", "-name", "*.pyc", "-delete"], ["find", "/home/runner", "-name", "*.lock", "-delete"], ["find", "/home/runner", "-type", "f"],
	] {
		count(home_wiped.violation) == 0 with input as run(arguments, [])
	}
}
