package sallyport.policies.install_script_hunts_secrets_test

import data.sallyport.policies.install_script_hunts_secrets

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

chain := [["node", "telemetry.js"], ["sh", "-c", "node telemetry.js"], ["npm", "ci"]]

test_hunters_are_caught if {
	every arguments in [
		["/tmp/trufflehog", "filesystem", "/"], ["gitleaks", "detect"], ["claude", "--dangerously-skip-permissions", "-p", "find wallets"],
		["gemini", "--yolo", "-p", "x"], ["q", "chat", "--trust-all-tools", "x"],
	] {
		count(install_script_hunts_secrets.violation) == 1 with input as run(arguments, chain)
	}
}

test_the_same_in_a_step_is_clean if {
	every arguments in [["trufflehog", "git", "file://."], ["gitleaks", "detect"], ["claude", "-p", "review"]] {
		count(install_script_hunts_secrets.violation) == 0 with input as run(arguments, [["bash", "-e", "step.sh"]])
	}
}

test_install_scripts_that_do_not_hunt_are_clean if {
	every arguments in [["node", "install.js"], ["cp", "trufflehog", "x"], ["claude", "--version"], ["esbuild", "--version"]] {
		count(install_script_hunts_secrets.violation) == 0 with input as run(arguments, chain)
	}
}
