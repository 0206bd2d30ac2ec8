package sallyport.policies.mining_test

import data.sallyport.policies.mining

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

test_miners_are_caught if {
	every arguments in [
		["./xmrig"], ["/tmp/xmrig", "-o", "pool.example.test:8080"], ["bash", "./xmrig.sh"], ["sysupdate", "-o", "stratum+tcp://pool.example.test:3333"],
		["kworker", "--donate-level", "1"], ["minerd", "-a", "x"],
	] {
		count(mining.violation) > 0 with input as run(arguments, [])
	}
}

test_pools_are_caught if {
	every name, _ in data.sallyport.lists.mining.domains {
		every kind in ["egress", "lookup"] {
			count(mining.violation) == 1 with input as {"behaviour": {"kind": kind, "program": "x", "domain": sprintf("de.%s", [name]), "server_name": ""}}
		}
	}
}

test_programs_that_only_name_a_miner_are_clean if {
	every arguments in [
		["git", "clone", "https://code.example.test/xmrig"], ["grep", "-r", "stratum+tcp://", "."], ["curl", "-LO", "https://x.example.test/xmrig.tar.gz"],
		["nohup", "./xmrig"], ["cp", "xmrig", "/tmp"], ["determined"], ["node", "miner.js"], ["go", "test", "./mining"], ["make", "-j8"],
	] {
		count(mining.violation) == 0 with input as run(arguments, [])
	}
}
