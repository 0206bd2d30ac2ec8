package sallyport.policies.dns_tunnel_test

import data.sallyport.policies.dns_tunnel

asks(type, names, encoded, known) := {
	"behaviour": {"kind": "lookup", "program": "sh", "target": "out.example.test", "domain": "x.out.example.test", "question_type": type, "names": names, "encoded_names": encoded},
	"baseline": {"known": known},
}

test_tunnels_are_caught if {
	count(dns_tunnel.violation) == 1 with input as asks("A", 8, 8, false)
	count(dns_tunnel.violation) == 1 with input as asks("TXT", 32, 32, false)
	count(dns_tunnel.violation) == 1 with input as asks("TXT", 16, 0, false)
	count(dns_tunnel.violation) == 1 with input as asks("NULL", 1, 0, false)
}

test_shards_of_a_store_are_clean if {
	count(dns_tunnel.violation) == 0 with input as asks("A", 64, 4, false)
	count(dns_tunnel.violation) == 0 with input as asks("A", 1024, 0, false)
}

test_some_text_records_are_clean if {
	count(dns_tunnel.violation) == 0 with input as asks("TXT", 4, 0, false)
	count(dns_tunnel.violation) == 0 with input as asks("MX", 8, 0, false)
}

test_mail_test_that_is_known_is_clean if {
	count(dns_tunnel.violation) == 0 with input as asks("TXT", 64, 0, true)
}
