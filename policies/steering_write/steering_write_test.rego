package sallyport.policies.steering_write_test

import data.sallyport.policies.steering_write

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

write(arguments, path, rule, ancestry) := touch(arguments, "entered", path, rule, "steering", ancestry)

workflow := "~/work/shop/shop/.github/workflows/shai-hulud-workflow.yml"

severity(given) := {v.severity | some v in steering_write.violation with input as given}

test_workflow_file_is_caught if {
	severity(write(["node", "bundle.js"], workflow, "workflow_file", [["npm", "ci"]])) == {"critical"}
	severity(write(["bash", "/tmp/processor.sh"], workflow, "workflow_file", [])) == {"medium"}
}

test_checkout_and_formatters_are_clean if {
	every program in ["git", "prettier", "tar"] {
		severity(write([program, "x"], workflow, "workflow_file", [])) == set()
	}
	severity(write(["node", "/usr/bin/npm", "ci"], "~/work/shop/shop/node_modules/x/.github/workflows/ci.yml", "workflow_file", [])) == set()
	severity(known(write(["sed", "-i", "x"], workflow, "workflow_file", []))) == set()
}

test_startup_file_of_python_is_caught if {
	severity(write(["python3", "/usr/bin/pip", "install", "litellm"], "~/v/lib/python{n}.{n}/site-packages/litellm_init.pth", "python_startup", [])) == {"medium"}
	severity(write(["python3", "x.py"], "~/v/lib/site-packages/x.pth", "python_startup", [])) == {"high"}
	severity(write(["cp", "x"], "/usr/lib/python3/dist-packages/sitecustomize.py", "python_startup", [])) == {"high"}
}

test_startup_files_of_builds_are_clean if {
	every file in ["distutils-precedence.pth", "__editable__.shop-{n}.{n}.pth", "_virtualenv.pth", "easy-install.pth", "sphinxcontrib_x-nspkg.pth", "coverage.pth"] {
		severity(write(["python3", "/usr/bin/pip", "install", "x"], sprintf("~/v/lib/site-packages/%s", [file]), "python_startup", [])) == set()
	}
}

test_environment_by_an_install_script_is_caught if {
	severity(write(["node", "x.js"], "~/work/_temp/_runner_file_commands/set_env_{hash}", "step_environment", [["npm", "ci"]])) == {"high"}
	severity(write(["node", "x.js"], "/etc/hosts", "name_resolution", [["npm", "ci"]])) == {"high"}
}

test_environment_by_a_step_is_clean if {
	severity(write(["bash", "-e", "x.sh"], "~/work/_temp/_runner_file_commands/set_env_{hash}", "step_environment", [])) == set()
	severity(write(["tee", "-a", "/etc/hosts"], "/etc/hosts", "name_resolution", [["sudo", "tee"]])) == set()
	severity(write(["node", "/w/node_modules/.bin/husky"], ".git/hooks/pre-commit", "git_hook", [["npm", "ci"]])) == set()
}
