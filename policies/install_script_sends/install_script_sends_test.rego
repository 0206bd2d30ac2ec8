package sallyport.policies.install_script_sends_test

import data.sallyport.policies.install_script_sends

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

sends(name, ancestry, known) := {
	"behaviour": {"kind": "egress", "program": "python3", "domain": name, "server_name": ""},
	"process": process(["python3", "setup.py"]), "ancestry": [process(a) | some a in ancestry], "baseline": {"known": known},
}

test_setup_that_sends_is_caught if {
	count(install_script_sends.violation) == 1 with input as sends("anti-theft-web.herokuapp.com", [["sh", "-c", "x"], ["pip", "install", "ctx"]], false)
}

test_smoke_test_after_a_deployment_is_clean if {
	count(install_script_sends.violation) == 0 with input as sends("shop.herokuapp.com", [["bash", "-e", "smoke.sh"]], false)
}

test_download_of_a_binary_by_a_package_is_clean if {
	count(install_script_sends.violation) == 0 with input as sends("binaries.example.test", [["npm", "ci"]], false)
	count(install_script_sends.violation) == 0 with input as sends("objects.githubusercontent.com", [["npm", "ci"]], false)
}

test_known_is_clean if {
	count(install_script_sends.violation) == 0 with input as sends("assets.vercel.app", [["npm", "ci"]], true)
}
