package sallyport.policies.large_upload_test

import data.sallyport.policies.large_upload

sent(bytes, most, known, scope) := {
	"behaviour": {"kind": "egress", "program": "curl", "target": "x.example.test", "bytes_sent": bytes, "address_scope": scope},
	"baseline": {"stable": true, "known": known, "program_known": known, "reopened": "", "most_bytes_sent": most},
}

test_large_uploads_are_caught if {
	count(large_upload.violation) == 1 with input as sent(67108864, 0, true, "public")
	count(large_upload.violation) == 1 with input as sent(1073741824, 67108864, true, "public")
}

test_uploads_as_ever_are_clean if {
	count(large_upload.violation) == 0 with input as sent(67108864, 67108864, true, "public")
	count(large_upload.violation) == 0 with input as sent(268435456, 67108864, true, "public")
	count(large_upload.violation) == 0 with input as sent(4194304, 0, true, "public")
}

test_own_network_is_clean if {
	count(large_upload.violation) == 0 with input as sent(67108864, 0, true, "private")
}

test_new_endpoint_is_left_to_new_endpoint if {
	count(large_upload.violation) == 0 with input as sent(67108864, 0, false, "public")
}
