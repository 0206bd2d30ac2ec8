package sallyport.policies.decoded_command_test

import data.sallyport.policies.decoded_command

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

run(arguments, ancestry) := {
	"behaviour": {"kind": "exec", "program": arguments[0], "target": sprintf("/usr/bin/%s", [arguments[0]])},
	"process": process(arguments), "ancestry": [process(a) | some a in ancestry], "job": {"event": "push", "repository": "acme/shop", "action": ""},
	"baseline": {"stable": true, "known": true, "program_known": true, "reopened": ""},
}

pipe(writer, reader) := {
	"behaviour": {
		"kind": "pipe", "program": writer[0], "target": reader[0], "writer_downloads": false,
		"target_executable": sprintf("/usr/bin/%s", [reader[0]]), "target_arguments": reader,
	},
	"process": process(writer), "ancestry": [], "baseline": {"known": false},
}

test_decoders_into_interpreters_are_caught if {
	every writer in [["base64", "-d"], ["base64", "--decode"], ["openssl", "enc", "-d", "-a"], ["xz", "-dc", "tests/bad.xz"], ["xxd", "-r", "-p"], ["gunzip", "-c"], ["tr", "a", "b"]] {
		count(decoded_command.violation) == 1 with input as pipe(writer, ["bash"])
		count(decoded_command.violation) == 1 with input as pipe(writer, ["python3", "-"])
	}
}

test_decoders_into_other_programs_are_clean if {
	every reader in [["tar", "x"], ["psql", "shop"], ["gpg", "--import"], ["jq", "."], ["docker", "load"], ["bash", "import.sh"], ["python3", "-m", "json.tool"]] {
		count(decoded_command.violation) == 0 with input as pipe(["base64", "-d"], reader)
		count(decoded_command.violation) == 0 with input as pipe(["gunzip", "-c"], reader)
	}
}

test_encoder_is_clean if {
	count(decoded_command.violation) == 0 with input as pipe(["tr", "-d", "\r"], ["bash"])
	count(decoded_command.violation) == 0 with input as pipe(["base64", "-w0"], ["bash"])
	count(decoded_command.violation) == 0 with input as pipe(["cat", "x.sh"], ["bash"])
}

test_inline_programs_are_caught if {
	every arguments in [
		["python3", "-c", "import base64;exec(base64.b64decode('cHJpbnQoMSk='))"], ["node", "-e", "eval(Buffer.from('YQ==','base64').toString())"],
		["php", "-r", "eval(base64_decode('YQ=='));"], ["pwsh", "-enc", "aQBlAHgAIAAoAG4AZQB3AC0AbwBiAGoAZQBjAHQAIAB4ACkA"],
	] {
		count(decoded_command.violation) == 1 with input as run(arguments, [])
	}
}

test_inline_programs_that_only_decode_are_clean if {
	every arguments in [
		["python3", "-c", "import base64,sys;print(base64.b64decode(sys.argv[1]))", "YQ=="], ["node", "-e", "console.log(Buffer.from('YQ==','base64'))"],
		["pwsh", "-Command", "Get-ChildItem"], ["pwsh", "-ExecutionPolicy", "Bypass", "-File", "x.ps1"], ["python3", "decode.py"],
	] {
		count(decoded_command.violation) == 0 with input as run(arguments, [])
	}
}
