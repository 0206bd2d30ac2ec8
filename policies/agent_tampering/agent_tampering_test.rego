package sallyport.policies.agent_tampering_test

import data.sallyport.policies.agent_tampering

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

test_attempts_are_caught if {
	every arguments in [
		["systemctl", "stop", "sallyport-agent"], ["systemctl", "mask", "--now", "sallyport-agent.service"], ["pkill", "-9", "sallyport-agent"],
		["rm", "-rf", "/var/lib/sallyport/agent"], ["docker", "stop", "sallyport-agent"],
	] {
		count(agent_tampering.violation) == 1 with input as run(arguments, [])
	}
	count(agent_tampering.violation) == 1 with input as {"behaviour": {"kind": "privilege", "privilege": "signal", "program": "python3"}}
}

test_looking_at_it_is_clean if {
	every arguments in [
		["systemctl", "status", "sallyport-agent"], ["pgrep", "sallyport-agent"], ["systemctl", "stop", "apt-daily.timer"], ["rm", "-rf", "/home/runner/work/sallyport/sallyport/dist"],
		["git", "clone", "https://github.com/sallyport-ci/sallyport"], ["journalctl", "-u", "sallyport-agent"],
	] {
		count(agent_tampering.violation) == 0 with input as run(arguments, [])
	}
}
