package sallyport.interpreter_test

import data.sallyport.interpreter

reader(arguments) := {"behaviour": {"target": arguments[0], "target_executable": concat("", ["/usr/bin/", arguments[0]]), "target_arguments": arguments}}

test_shell_runs_what_it_reads if {
	interpreter.runs == {"shell"} with input as reader(["bash"])
}

test_shell_with_a_script_does_not if {
	count(interpreter.runs) == 0 with input as reader(["bash", "build.sh"])
}
