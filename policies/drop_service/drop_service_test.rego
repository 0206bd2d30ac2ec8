package sallyport.policies.drop_service_test

import data.sallyport.policies.drop_service

contact(kind, name, known, encoded) := {
	"behaviour": {"kind": kind, "program": "node", "domain": name, "server_name": "", "target": name, "encoded_names": encoded},
	"baseline": {"stable": false, "known": known},
}

test_every_listed_service_is_caught if {
	every name, _ in data.sallyport.lists.drop_services.domains {
		count(drop_service.violation) == 1 with input as contact("egress", name, false, 0)
		count(drop_service.violation) == 1 with input as contact("egress", sprintf("x1.%s", [name]), false, 0)
	}
}

test_name_with_data_below_a_catcher_is_caught if {
	count(drop_service.violation) == 1 with input as contact("lookup", "aa.interact.sh", false, 1)
}

test_bot_that_the_job_always_tells_is_clean if {
	count(drop_service.violation) == 0 with input as contact("egress", "api.telegram.org", true, 0)
}

test_ordinary_hosts_are_clean if {
	every name in ["hooks.slack.com", "storage.googleapis.com", "registry.example.test", "mywebhook.site.example.test", "github.com"] {
		count(drop_service.violation) == 0 with input as contact("egress", name, false, 0)
	}
}

test_plain_question_is_clean if {
	count(drop_service.violation) == 0 with input as contact("lookup", "webhook.site", false, 0)
}
