package sallyport.policies.privilege_use_test

import data.sallyport.policies.privilege_use

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

use(privilege, program, executable, ancestry) := {
	"behaviour": {"kind": "privilege", "privilege": privilege, "program": program, "target": "x", "capabilities": ["CAP_SYS_ADMIN"]},
	"process": object.union(process([program]), {"executable": executable}), "ancestry": [process(a) | some a in ancestry], "baseline": {"stable": true, "known": false},
}

test_unusual_uses_are_caught if {
	every privilege in ["module", "bpf", "packets"] {
		count(privilege_use.violation) == 1 with input as use(privilege, "python3", "/usr/bin/python3", [])
		count(privilege_use.violation) == 1 with input as use(privilege, "modprobe", "/tmp/modprobe", [])
	}
	count(privilege_use.violation) == 1 with input as use("gained", "x", "/tmp/x", [["bash"]])
}

test_tools_of_the_machine_are_clean if {
	count(privilege_use.violation) == 0 with input as use("module", "modprobe", "/usr/sbin/modprobe", [["sudo", "modprobe"]])
	count(privilege_use.violation) == 0 with input as use("bpf", "systemd", "/usr/lib/systemd/systemd", [])
	count(privilege_use.violation) == 0 with input as use("packets", "tcpdump", "/usr/bin/tcpdump", [])
	count(privilege_use.violation) == 0 with input as use("bpf", "runc", "/usr/bin/runc", [])
}

test_sudo_is_clean if {
	count(privilege_use.violation) == 0 with input as use("gained", "sudo", "/usr/bin/sudo", [])
	count(privilege_use.violation) == 0 with input as use("gained", "install.sh", "/tmp/install.sh", [["sudo", "/tmp/install.sh"]])
}

test_tests_in_user_namespaces_are_clean if {
	count(privilege_use.violation) == 0 with input as use("gained", "x.test", "/tmp/go-build1/b001/x.test", [["go", "test"]])
	count(privilege_use.violation) == 0 with input as use("namespaces", "bwrap", "/usr/bin/bwrap", [])
}
