package sallyport.policies.process_memory_read_test

import data.sallyport.policies.process_memory_read

access(executable, kind, worker) := {
	"behaviour": {
		"kind": "process_access", "program": split(executable, "/")[count(split(executable, "/")) - 1], "access": kind,
		"target": "target", "target_is_worker": worker, "target_is_descendant": false,
	},
	"process": {"executable": executable},
	"baseline": {"stable": true, "known": true},
}

all := ["proc-mem", "proc-maps", "proc-environ", "ptrace", "vm-read", "vm-write"]

severities(given) := {v.severity | some v in process_memory_read.violation with input as given}

test_worker_is_critical_in_every_way if {
	every kind in all {
		severities(access("/usr/bin/python3.11", kind, true)) == {"critical"}
	}
}

test_debugger_on_the_worker_is_critical if {
	severities(access("/usr/bin/gdb", "proc-mem", true)) == {"critical"}
}

test_lister_reading_memory_of_the_worker_is_critical if {
	severities(access("/usr/bin/ps", "proc-mem", true)) == {"critical"}
}

test_program_named_like_a_lister_is_caught if {
	severities(access("/tmp/lsof", "proc-environ", true)) == {"critical"}
}

test_other_process_is_caught_by_severity if {
	severities(access("/usr/bin/python3.11", "proc-mem", false)) == {"high"}
	severities(access("/usr/bin/cat", "proc-environ", false)) == {"medium"}
	severities(access("/usr/bin/cat", "proc-maps", false)) == {"low"}
}

test_listers_are_clean if {
	every kind in ["proc-maps", "proc-environ"] {
		every executable in ["/usr/bin/ps", "/usr/bin/lsof", "/bin/fuser", "/usr/bin/pgrep"] {
			severities(access(executable, kind, true)) == set()
			severities(access(executable, kind, false)) == set()
		}
	}
}

test_debuggers_on_other_processes_are_clean if {
	every kind in all {
		severities(access("/usr/bin/gdb", kind, false)) == set()
		severities(access("/usr/bin/strace", kind, false)) == set()
	}
}

test_own_descendant_is_clean if {
	given := json.patch(access("/opt/app/supervisor", "ptrace", false), [{"op": "replace", "path": "/behaviour/target_is_descendant", "value": true}])
	severities(given) == set()
}

test_egress_is_clean if {
	severities({"behaviour": {"kind": "egress"}, "process": {"executable": "/usr/bin/curl"}}) == set()
}
