package sallyport.policies.runner_registration_test

import data.sallyport.policies.runner_registration

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

step(given) := object.union(given, {"job": {"step": "install"}})

test_registrations_are_caught if {
	every arguments in [
		["bash", "./config.sh", "--url", "https://github.com/acme/x", "--token", "[redacted:00000000]", "--name", "SHA1HULUD", "--unattended"],
		["./config.sh", "--url=https://github.com/acme/x", "--token=[redacted:00000000]"],
		["/home/runner/.dev-env/bin/Runner.Listener", "run"],
	] {
		count(runner_registration.violation) == 1 with input as step(run(arguments, []))
	}
}

test_token_for_a_runner_is_caught if {
	given := {"behaviour": {"kind": "request", "program": "node", "method": "POST", "path": "/repos/acme/x/actions/runners/registration-token"}, "baseline": {"known": false}}
	count(runner_registration.violation) == 1 with input as given
	count(runner_registration.violation) == 0 with input as json.patch(given, [{"op": "replace", "path": "/baseline/known", "value": true}])
}

test_other_scripts_of_that_name_are_clean if {
	every arguments in [["bash", "./config.sh"], ["./config.sh", "--prefix=/usr"], ["./config.sh", "--url", "https://x.example.test"], ["grep", "Runner.Listener", "x"], ["cp", "x", "/opt/runner/bin/Runner.Worker"], ["sudo", "chmod", "/opt/runner/bin/Runner.Worker"], ["pgrep", "Runner.Listener"]] {
		count(runner_registration.violation) == 0 with input as step(run(arguments, []))
	}
}

test_the_worker_of_the_job_is_clean if {
	given := object.union(run(["/opt/runner/bin/Runner.Worker", "spawnclient"], []), {"job": {"step": ""}})
	count(runner_registration.violation) == 0 with input as given
}
