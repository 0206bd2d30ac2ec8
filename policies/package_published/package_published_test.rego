package sallyport.policies.package_published_test

import data.sallyport.policies.package_published

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

test_worms_are_caught if {
	every arguments in [["npm", "publish"], ["node", "/usr/bin/npm", "publish", "--access", "public"], ["twine", "upload", "dist/x"], ["cargo", "publish"]] {
		count(package_published.violation) == 1 with input as run(arguments, [["node", "bundle.js"], ["npm", "install"]])
		count(package_published.violation) == 1 with input as object.union(run(arguments, []), {"job": {"event": "pull_request_target"}})
	}
}

test_release_is_clean if {
	every arguments in [["npm", "publish"], ["twine", "upload", "dist/x"], ["cargo", "publish"]] {
		count(package_published.violation) == 0 with input as run(arguments, [["bash", "-e", "release.sh"]])
	}
}

test_trial_is_clean if {
	count(package_published.violation) == 0 with input as object.union(run(["npm", "publish", "--dry-run"], []), {"job": {"event": "pull_request"}})
	count(package_published.violation) == 0 with input as object.union(run(["npm", "run", "build"], []), {"job": {"event": "pull_request"}})
}
