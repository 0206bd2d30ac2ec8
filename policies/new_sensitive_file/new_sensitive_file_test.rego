package sallyport.policies.new_sensitive_file_test

import data.sallyport.policies.new_sensitive_file

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

test_new_uses_are_caught if {
	count(new_sensitive_file.violation) == 1 with input as stable(touch(["python3", "x.py"], "read", "~/.aws/credentials", "aws_credentials", "credential", []))
	count(new_sensitive_file.violation) == 1 with input as stable(touch(["tee", "-a"], "written", "/etc/hosts", "name_resolution", "steering", []))
	count(new_sensitive_file.violation) == 1 with input as stable(touch(["node", "x.js"], "entered", "~/.local/bin/git", "path_folder", "steering", []))
}

test_another_program_is_caught if {
	given := object.union(stable(touch(["ruby", "x"], "read", "~/.aws/credentials", "aws_credentials", "credential", [])), {"baseline": {"known": true}})
	count(new_sensitive_file.violation) == 1 with input as given
}

test_owners_are_clean if {
	count(new_sensitive_file.violation) == 0 with input as stable(touch(["aws", "s3"], "read", "~/.aws/credentials", "aws_credentials", "credential", []))
	count(new_sensitive_file.violation) == 0 with input as stable(touch(["npm", "ci"], "entered", "~/w/node_modules/.bin/tsc", "path_folder", "steering", []))
	count(new_sensitive_file.violation) == 0 with input as stable(touch(["bash", "x.sh"], "written", "~/work/_temp/set_env_x", "step_environment", "steering", []))
	count(new_sensitive_file.violation) == 0 with input as stable(touch(["systemctl", "enable"], "entered", "/etc/systemd/system/x", "systemd_unit", "persistence", []))
}

test_learning_and_known_are_clean if {
	given := touch(["python3", "x.py"], "read", "~/.aws/credentials", "aws_credentials", "credential", [])
	count(new_sensitive_file.violation) == 0 with input as given
	count(new_sensitive_file.violation) == 0 with input as known(given)
}

test_removal_is_clean if {
	count(new_sensitive_file.violation) == 0 with input as stable(touch(["rm"], "left", "~/.local/bin/x", "path_folder", "steering", []))
}
