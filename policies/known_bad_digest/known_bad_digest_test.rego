package sallyport.policies.known_bad_digest_test

import data.sallyport.policies.known_bad_digest

process(arguments) := {
	"executable": sprintf("/usr/bin/%s", [arguments[0]]), "script": "", "arguments": arguments, "executable_sha256": "",
	"executable_in_memory": false, "executable_deleted": false, "working_directory": "/home/runner/work/shop/shop", "uid": 1001, "effective_uid": 1001,
}

done(kind, digest, parent) := {
	"behaviour": {"kind": kind, "program": "tool"}, "baseline": {"known": true},
	"process": object.union(process(["tool"]), {"executable_sha256": digest}),
	"ancestry": [object.union(process(["sh"]), {"executable_sha256": parent})],
}

test_every_listed_digest_is_caught if {
	every digest, _ in data.sallyport.lists.known_bad_digests {
		every kind in ["exec", "egress", "file"] {
			count(known_bad_digest.violation) == 1 with input as done(kind, digest, "")
			count(known_bad_digest.violation) == 1 with input as done(kind, "", digest)
		}
	}
}

test_other_digests_are_clean if {
	count(known_bad_digest.violation) == 0 with input as done("exec", "", "")
	count(known_bad_digest.violation) == 0 with input as done("exec", crypto.sha256("something else"), "")
}
