package sallyport.policies.pipe_to_interpreter_test

import data.sallyport.policies.pipe_to_interpreter

pipe(writer, downloads, arguments) := {"behaviour": {
	"kind": "pipe", "program": writer, "writer_downloads": downloads,
	"target": arguments[0], "target_executable": concat("", ["/usr/bin/", arguments[0]]), "target_arguments": arguments,
}}

wrong := [
	["bash"], ["sh"], ["bash", "-s", "--", "--prefix", "/opt"], ["bash", "-euo", "pipefail"], ["bash", "-x", "-"],
	["python3"], ["python3", "-"], ["python3.11", "-u"], ["perl"], ["node"], ["node", "-"], ["ruby"],
	["bash", "/dev/fd/63"], ["bash", "/dev/fd/63", "--flag"], ["python3", "/dev/stdin"], ["php"], ["pwsh"],
]

right := [
	["bash", "-c", "cat > file"], ["bash", "install.sh"], ["python3", "-c", "import json"], ["python3", "-m", "json.tool"],
	["python3", "script.py"], ["perl", "-pe", "s/a/b/"], ["perl", "-ne", "print"], ["ruby", "-e", "puts 1"],
	["node", "-e", "1"], ["node", "parse.js"], ["jq", "."], ["tar", "xz"], ["php", "-r", "echo 1;"],
	["sha256sum", "-c", "-"], ["diff", "/dev/fd/63", "b"],
]

test_interpreters_that_run_a_download_are_caught if {
	every arguments in wrong {
		count(pipe_to_interpreter.violation) == 1 with input as pipe("curl", true, arguments)
	}
}

test_readers_of_data_are_clean if {
	every arguments in right {
		count(pipe_to_interpreter.violation) == 0 with input as pipe("curl", true, arguments)
	}
}

test_local_writer_is_clean if {
	every arguments in wrong {
		count(pipe_to_interpreter.violation) == 0 with input as pipe("cat", false, arguments)
	}
}

test_interpreter_under_another_name_is_caught if {
	given := json.patch(pipe("curl", true, ["cat"]), [{"op": "replace", "path": "/behaviour/target_executable", "value": "/usr/bin/bash"}])
	count(pipe_to_interpreter.violation) == 1 with input as given
}
