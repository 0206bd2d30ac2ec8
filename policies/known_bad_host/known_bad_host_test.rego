package sallyport.policies.known_bad_host_test

import data.sallyport.policies.known_bad_host

behaviour(kind, domain, server_name) := {
	"behaviour": {"kind": kind, "program": "node", "domain": domain, "server_name": server_name, "address": "198.51.100.7", "target": domain},
	"baseline": {"stable": true, "known": true},
}

test_every_listed_host_is_caught_in_every_way if {
	every host, _ in data.sallyport.lists.known_bad_hosts.domains {
		every kind in ["egress", "lookup", "request"] {
			count(known_bad_host.violation) > 0 with input as behaviour(kind, host, "")
		}
		count(known_bad_host.violation) > 0 with input as behaviour("egress", sprintf("x.%s", [host]), "")
		count(known_bad_host.violation) > 0 with input as behaviour("egress", "", host)
	}
}

test_listed_address_is_caught if {
	list := {"domains": {}, "addresses": {"198.51.100.7": {"kind": "collector", "source": "test"}}}
	count(known_bad_host.violation) == 1 with input as behaviour("egress", "", "") with data.sallyport.lists.known_bad_hosts as list
}

test_the_host_that_is_spelt_right_is_clean if {
	every host in ["scan.aquasecurity.example.test", "getsession.example.test", "registry.example.test", "notcheckmarx.zone"] {
		count(known_bad_host.violation) == 0 with input as behaviour("egress", host, host)
	}
}
