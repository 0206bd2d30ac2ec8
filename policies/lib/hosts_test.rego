package sallyport.hosts_test

import data.sallyport.hosts

list := {"bad.example.test": "whole", "deep.bad.example.test": "deep"}

test_name_and_what_is_below_it_is_found if {
	hosts.entry("bad.example.test", list) == "whole"
	hosts.entry("x.y.bad.example.test", list) == "whole"
	hosts.entry("a.deep.bad.example.test", list) == "deep"
}

test_names_that_only_end_alike_are_not_found if {
	not hosts.entry("notbad.example.test", list)
	not hosts.entry("example.test", list)
}

test_both_names_of_a_flow if {
	hosts.names == {"a.example.test", "b.example.test"} with input as {"behaviour": {"domain": "A.example.test", "server_name": "b.example.test"}}
}
