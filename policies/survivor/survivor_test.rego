package sallyport.policies.survivor_test

import data.sallyport.policies.survivor

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

left(executable, arguments) := {
	"behaviour": {"kind": "survivor", "program": split(executable, "/")[count(split(executable, "/")) - 1], "target": "x"},
	"process": object.union(process(arguments), {"executable": executable}), "ancestry": [], "baseline": {"stable": true, "known": false},
}

severity(given) := {v.severity | some v in survivor.violation with input as given}

test_what_stays_is_caught if {
	severity(left("/usr/bin/bash", ["bash", "-c", "while true; do sleep 60; done"])) == {"medium"}
	severity(left("/usr/bin/node", ["node", "server.js"])) == {"medium"}
	severity(left("/tmp/ultralytics_runner", ["/tmp/ultralytics_runner"])) == {"high"}
	severity(left("/home/runner/.sysmon", ["sysmon"])) == {"high"}
}

test_service_from_scratch_is_caught if {
	severity(left("/tmp/dockerd", ["dockerd"])) == {"high"}
}

test_services_are_clean if {
	every executable in ["/usr/bin/dockerd", "/usr/bin/ssh-agent", "/usr/bin/gpg-agent", "/usr/sbin/mysqld", "/usr/lib/systemd/systemd-timesyncd"] {
		severity(left(executable, [executable])) == set()
	}
	severity(left("/usr/lib/jvm/bin/java", ["java", "-cp", "x", "org.gradle.launcher.daemon.bootstrap.GradleDaemon", "8.5"])) == set()
	severity(object.union(left("/usr/bin/node", ["node"]), {"process": {"container": {"id": "0123"}}})) == set()
}
