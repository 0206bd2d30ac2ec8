package sallyport.policies.persistence_write_test

import data.sallyport.policies.persistence_write

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

write(arguments, operation, path, rule, ancestry) := touch(arguments, operation, path, rule, "persistence", ancestry)

test_what_stays_is_caught if {
	every pair in [
		["/etc/cron.d/x", "cron"], ["/etc/systemd/system/sysmon.service", "systemd_unit"], ["~/.config/systemd/user/x.service", "systemd_unit"], ["~/.ssh/authorized_keys", "ssh_access"],
		["/etc/sudoers.d/x", "sudoers"], ["/etc/ld.so.preload", "loader"],
	] {
		every operation in ["written", "entered"] {
			count(persistence_write.violation) == 1 with input as write(["python3", "x.py"], operation, pair[0], pair[1], [["sudo", "python3"], ["bash", "-e", "x.sh"]])
		}
	}
}

severity(given) := {v.severity | some v in persistence_write.violation with input as given}

test_profiles_are_weighed_by_who_writes if {
	severity(write(["node", "telemetry.js"], "written", "~/.bashrc", "shell_profile", [["npm", "ci"]])) == {"critical"}
	severity(write(["node", "x.js"], "written", "~/.bashrc", "shell_profile", [])) == {"medium"}
	severity(write(["rustup-init"], "written", "~/.profile", "shell_profile", [])) == {"low"}
}

test_package_managers_of_the_machine_are_clean if {
	every chain in [[["apt-get", "install", "-y", "nginx"], ["sudo", "apt-get"]], [["sh", "/var/lib/dpkg/info/cron.postinst"], ["dpkg"], ["apt-get"]]] {
		count(persistence_write.violation) == 0 with input as write(["cp", "x"], "entered", "/etc/cron.d/x", "cron", chain)
	}
	count(persistence_write.violation) == 0 with input as write(["systemctl", "enable", "docker"], "entered", "/etc/systemd/system/x.service", "systemd_unit", [["sudo", "systemctl"]])
}

test_sudo_alone_is_no_package_manager if {
	count(persistence_write.violation) == 1 with input as write(["tee", "/etc/cron.d/x"], "entered", "/etc/cron.d/x", "cron", [["sudo", "tee", "/etc/cron.d/x"]])
}

test_known_change_is_clean if {
	count(persistence_write.violation) == 0 with input as known(write(["rustup-init"], "written", "~/.profile", "shell_profile", []))
}

test_removal_is_clean if {
	count(persistence_write.violation) == 0 with input as write(["rm", "/etc/cron.d/x"], "left", "/etc/cron.d/x", "cron", [])
}
