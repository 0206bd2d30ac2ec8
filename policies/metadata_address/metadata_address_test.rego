package sallyport.policies.metadata_address_test

import data.sallyport.policies.metadata_address

egress(address, domain, scope) := {
	"behaviour": {"kind": "egress", "program": "curl", "target": address, "address": address, "domain": domain, "address_scope": scope, "port": 80, "protocol": "tcp"},
	"baseline": {"stable": true, "known": true},
}

test_every_listed_address_is_caught if {
	every address in data.sallyport.lists.metadata_addresses.addresses {
		count(metadata_address.violation) == 1 with input as egress(address, "", "metadata")
	}
}

test_domain_is_caught_whatever_the_address if {
	count(metadata_address.violation) == 1 with input as egress("10.0.0.9", "metadata.google.internal", "private")
}

test_other_link_local_address_is_clean if {
	count(metadata_address.violation) == 0 with input as egress("169.254.7.7", "", "link-local")
}

test_named_host_is_clean if {
	count(metadata_address.violation) == 0 with input as egress("203.0.113.9", "registry.example.test", "public")
}
