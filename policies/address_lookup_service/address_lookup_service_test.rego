package sallyport.policies.address_lookup_service_test

import data.sallyport.policies.address_lookup_service

asks(kind, program, name, known) := {
	"behaviour": {"kind": kind, "program": program, "domain": name, "server_name": "", "target": name},
	"baseline": {"stable": true, "known": known},
}

test_every_listed_service_is_caught if {
	every name, _ in data.sallyport.lists.address_services.domains {
		count(address_lookup_service.violation) == 1 with input as asks("egress", "node", name, false)
	}
}

test_question_by_dns_is_caught if {
	count(address_lookup_service.violation) == 1 with input as asks("lookup", "dig", "myip.opendns.com", false)
}

test_job_that_opens_a_firewall_for_itself_is_clean_once_known if {
	count(address_lookup_service.violation) == 0 with input as asks("egress", "terraform", "checkip.amazonaws.com", true)
}

test_other_hosts_are_clean if {
	count(address_lookup_service.violation) == 0 with input as asks("egress", "node", "api.ipify.example.test", false)
	count(address_lookup_service.violation) == 0 with input as asks("egress", "aws", "sts.amazonaws.com", false)
}
