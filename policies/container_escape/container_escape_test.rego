package sallyport.policies.container_escape_test

import data.sallyport.policies.container_escape

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

test_ways_out_are_caught if {
	every arguments in [
		["docker", "run", "--rm", "--privileged", "-v", "/:/host", "ubuntu", "bash"], ["docker", "run", "--volume=/:/mnt", "alpine"],
		["podman", "run", "--mount", "type=bind,source=/,target=/host", "alpine"], ["docker", "run", "--privileged", "--pid=host", "alpine", "nsenter"],
		["docker", "run", "-v", "/etc:/x", "alpine"], ["nsenter", "-t", "1", "-m", "-u", "-i", "-n", "bash"], ["nsenter", "--target=1", "--all"],
	] {
		count(container_escape.violation) > 0 with input as run(arguments, [])
	}
}

test_reader_of_the_root_is_medium if {
	some violation in container_escape.violation with input as run(["docker", "run", "-v", "/:/rootfs:ro", "scanner"], [])
	violation.severity == "medium"
}

test_a_harmless_mount_hides_no_harmful_one if {
	some violation in container_escape.violation with input as run(["docker", "run", "-v", "/:/a:ro", "-v", "/:/b", "alpine"], [])
	violation.severity == "high"
}

test_ordinary_containers_are_clean if {
	every arguments in [
		["docker", "run", "--rm", "--privileged", "tonistiigi/binfmt:latest", "--install", "all"], ["docker", "run", "-v", "/home/runner/work/shop/shop:/w", "node"],
		["docker", "run", "-v", "/var/run/docker.sock:/var/run/docker.sock", "tests"], ["docker", "run", "--privileged", "docker:dind"], ["docker", "build", "."],
		["docker", "run", "-v", "cache:/var/cache", "x"], ["docker", "run", "--pid=host", "x"], ["nsenter", "-t", "4711", "-n", "ip", "a"], ["unshare", "-r", "true"],
		["docker", "run", "-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "x"], ["docker", "run", "--mount", "type=bind,source=/home/runner/x,target=/x", "x"],
	] {
		count(container_escape.violation) == 0 with input as run(arguments, [])
	}
}
