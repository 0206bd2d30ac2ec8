package grafana

const runUID = "sallyport-run"

// ofRepositories keeps the rows of the chosen repositories.
const ofRepositories = "$__conditionalAll(repository IN (${repository:singlequote}), $repository)"

// ofRun keeps the rows of the chosen run.
const ofRun = "repository = ${repository:singlequote} AND run_id = ${run_id:singlequote}"

var repositories = Variable{
	Name: "repository", Label: "Repository", Several: true,
	Query: "SELECT DISTINCT repository FROM egress_days WHERE repository != '' ORDER BY repository",
}

// Dashboards returns all dashboards.
func Dashboards() []Dashboard {
	return []Dashboard{egress(), run(), baselines(), findings(), agents()}
}

func egress() Dashboard {
	where := "FROM egress_days\nWHERE $__dateFilter(day) AND " + ofRepositories
	return Dashboard{
		UID: "sallyport-egress", Title: "Egress overview", From: "now-30d",
		Description: "Where all jobs send to, how much, and which destinations only one job has. By days in UTC.",
		Variables:   []Variable{repositories},
		Panels: []Panel{
			{Title: "Destinations", Description: "Different endpoints: domain or bare address, and port.", Kind: Stat, Width: 6, Height: 4,
				Query: "SELECT uniqExact((endpoint, port)) AS destinations\n" + where},
			{Title: "Connections", Description: "Flows that began.", Kind: Stat, Width: 6, Height: 4,
				Query: "SELECT sum(connections) AS connections\n" + where},
			{Title: "Sent", Description: "Payload bytes that jobs sent.", Kind: Stat, Width: 6, Height: 4, Unit: "bytes",
				Query: "SELECT sum(bytes_sent) AS sent\n" + where},
			{Title: "Jobs", Description: "Different jobs that sent anything.", Kind: Stat, Width: 6, Height: 4,
				Query: "SELECT uniqExact((repository, workflow, job)) AS jobs\n" + where},
			{Title: "Sent a day", Description: "Payload bytes sent, of the ten repositories that sent most.", Kind: TimeSeries, Width: 12, Height: 8, Unit: "bytes", Stacked: true,
				Query: "SELECT toDateTime(day, 'UTC') AS time, repository, sum(bytes_sent) AS sent\n" + where +
					"\n    AND repository IN (SELECT repository " + where + " GROUP BY repository ORDER BY sum(bytes_sent) DESC LIMIT 10)" +
					"\nGROUP BY time, repository\nORDER BY time, repository"},
			{Title: "Destinations a day", Description: "Different endpoints, and those among them that are bare addresses.", Kind: TimeSeries, Width: 12, Height: 8,
				Query: "SELECT toDateTime(day, 'UTC') AS time, uniqExact((endpoint, port)) AS destinations,\n" +
					"    uniqExactIf((endpoint, port), isIPv4String(endpoint) OR isIPv6String(endpoint)) AS bare_addresses\n" + where + "\nGROUP BY time\nORDER BY time"},
			{Title: "Destinations", Description: "Those that most was sent to.", Kind: Table, Width: 24, Height: 11,
				Query: "SELECT endpoint, port, protocol, uniqExact((repository, workflow, job)) AS jobs,\n" +
					"    arrayStringConcat(arraySort(groupUniqArray(8)(program)), ' ') AS programs, sum(connections) AS connections,\n" +
					"    sum(bytes_sent) AS sent, sum(bytes_received) AS received, min(first_seen) AS first_seen, max(last_seen) AS last_seen\n" +
					where + "\nGROUP BY endpoint, port, protocol\nORDER BY sent DESC, endpoint, port\nLIMIT 200"},
			{Title: "Destinations of one job only", Description: "What no other job speaks to, newest first.", Kind: Table, Width: 12, Height: 11,
				Query: "SELECT endpoint, port, any(repository) AS of_repository, any(job) AS of_job, arrayStringConcat(arraySort(groupUniqArray(8)(program)), ' ') AS programs,\n" +
					"    sum(bytes_sent) AS sent, min(first_seen) AS first_seen\n" + where +
					"\nGROUP BY endpoint, port\nHAVING uniqExact((repository, workflow, job)) = 1\nORDER BY first_seen DESC, endpoint\nLIMIT 100"},
			{Title: "Bare addresses", Description: "Destinations that nobody looked up.", Kind: Table, Width: 12, Height: 11,
				Query: "SELECT endpoint AS address, port, repository, job, arrayStringConcat(arraySort(groupUniqArray(8)(program)), ' ') AS programs,\n" +
					"    sum(connections) AS connections, sum(bytes_sent) AS sent, max(last_seen) AS last_seen\n" + where +
					"\n    AND (isIPv4String(endpoint) OR isIPv6String(endpoint))\nGROUP BY endpoint, port, repository, job\nORDER BY last_seen DESC, address\nLIMIT 100"},
		},
	}
}

func run() Dashboard {
	return Dashboard{
		UID: runUID, Title: "One run in depth", From: "now-7d",
		Description: "Everything that one run did: jobs, steps, destinations, programs, files and findings.",
		Variables: []Variable{
			{Name: "repository", Label: "Repository", Query: repositories.Query},
			{Name: "run_id", Label: "Run", Query: "SELECT run_id FROM job_events\nWHERE repository = ${repository:singlequote}\nGROUP BY run_id ORDER BY max(time) DESC LIMIT 500"},
		},
		Panels: []Panel{
			{Title: "Jobs", Description: "Executions of the run's jobs.", Kind: Table, Width: 12, Height: 6,
				Query: "SELECT job, run_attempt, event, ref, actor, runner, started_at, ended_at, end_reason\nFROM jobs\nWHERE " + ofRun + "\nORDER BY started_at, job"},
			{Title: "Findings", Description: "What policies held to be wrong.", Kind: Table, Width: 12, Height: 6,
				Query: "SELECT time, severity, policy, job, step, message\nFROM findings\nWHERE " + ofRun + "\nORDER BY severity DESC, time"},
			{Title: "Steps", Description: "With how much each did.", Kind: Table, Width: 12, Height: 9,
				Query: "SELECT job, step, action, processes, flows, bytes_sent, bytes_received, started_at\nFROM steps\nWHERE " + ofRun + "\nORDER BY started_at, job, step"},
			{Title: "Activity", Description: "Programs run and flows begun over time.", Kind: TimeSeries, Width: 12, Height: 9, Stacked: true,
				Query: "SELECT $__timeInterval(time) AS t, 'programs' AS what, count() AS events\nFROM process_events\nWHERE " + ofRun + " AND kind = 'executed'\nGROUP BY t\n" +
					"UNION ALL\nSELECT $__timeInterval(time) AS t, 'flows' AS what, count() AS events\nFROM flow_events\nWHERE " + ofRun + " AND phase = 'started'\nGROUP BY t\nORDER BY t, what"},
			{Title: "Destinations", Description: "Flows of the run, by who sent where.", Kind: Table, Width: 24, Height: 10,
				Query: "SELECT job, step, program, if(domain = '', destination_address, domain) AS endpoint, destination_port AS port, protocol, any(server_name) AS tls_name,\n" +
					"    count() AS flows, sum(bytes_sent) AS sent, sum(bytes_received) AS received, countIf(outcome NOT IN ('', 'closed')) AS failed, min(started_at) AS first\nFROM egress\nWHERE " + ofRun +
					"\nGROUP BY job, step, program, endpoint, port, protocol\nORDER BY first, endpoint\nLIMIT 500"},
			{Title: "Programs", Description: "In the order in which they started; arguments are redacted by the agent.", Kind: Table, Width: 24, Height: 12,
				Query: "SELECT started_at, job, step, program, arrayStringConcat(arguments, ' ') AS command, parent_program, pid, uid, exit_code, ended_at\nFROM processes\nWHERE " + ofRun +
					"\nORDER BY started_at\nLIMIT 1000"},
			{Title: "Files that matter", Description: "Credentials read, and files written that steer later steps.", Kind: Table, Width: 12, Height: 9,
				Query: "SELECT time, job, step, program, operation, path, category, rule, times\nFROM file_accesses\nWHERE " + ofRun + "\nORDER BY time\nLIMIT 500"},
			{Title: "Names asked for", Description: "DNS questions and what they led to.", Kind: Table, Width: 12, Height: 9,
				Query: "SELECT job, step, program, name, type, any(response_code) AS answer, count() AS questions, min(time) AS first\nFROM dns\nWHERE " + ofRun +
					"\nGROUP BY job, step, program, name, type\nORDER BY first, name\nLIMIT 500"},
		},
	}
}

func baselines() Dashboard {
	// What each job speaks to, with the first time ever.
	ever := "(\n    SELECT repository, workflow, job, endpoint, port, min(first_seen) AS first, max(last_seen) AS last, uniqMerge(runs) AS runs,\n" +
		"        arrayStringConcat(arraySort(groupUniqArray(8)(program)), ' ') AS programs\n" +
		"    FROM egress_days\n    WHERE " + ofRepositories + "\n    GROUP BY repository, workflow, job, endpoint, port\n)"
	return Dashboard{
		UID: "sallyport-baselines", Title: "Baselines and new endpoints", From: "now-30d",
		Description: "How what jobs speak to grows: what is new when, and which jobs have settled. What the detector has learned is shown by `sallyport baseline`.",
		Variables:   []Variable{repositories},
		Panels: []Panel{
			{Title: "New endpoints a day", Description: "Endpoints that a job spoke to for the first time ever.", Kind: TimeSeries, Width: 16, Height: 8,
				Query: "SELECT toDateTime(toDate(first), 'UTC') AS time, count() AS new_endpoints\nFROM " + ever + "\nWHERE $__timeFilter(first)\nGROUP BY time\nORDER BY time"},
			{Title: "Jobs without anything new", Description: "Share of the jobs that ran whose last new endpoint is older than the time shown.", Kind: Stat, Width: 8, Height: 8, Unit: "percentunit",
				Query: "SELECT countIf(newest < $__fromTime) / greatest(count(), 1) AS settled\nFROM (SELECT max(first) AS newest, max(last) AS active FROM " + ever + " GROUP BY repository, workflow, job)\nWHERE active >= $__fromTime"},
			{Title: "Newest endpoints", Description: "First contact of a job with an endpoint, newest first.", Kind: Table, Width: 24, Height: 11,
				Query: "SELECT first AS first_seen, repository, workflow, job, endpoint, port, programs, runs, last AS last_seen\nFROM " + ever + "\nWHERE $__timeFilter(first)\nORDER BY first DESC, endpoint\nLIMIT 200"},
			{Title: "Jobs", Description: "How many endpoints each job has, and how long ago the last new one came.", Kind: Table, Width: 24, Height: 11,
				Query: "SELECT repository, workflow, job, count() AS endpoints, countIf($__timeFilter(first)) AS new_endpoints, max(first) AS last_new, max(last) AS last_seen\nFROM " + ever +
					"\nGROUP BY repository, workflow, job\nORDER BY new_endpoints DESC, repository, job\nLIMIT 500"},
			{Title: "Findings, by what the baseline knew", Description: "stable: the job's baseline was; learning: it was not yet.", Kind: TimeSeries, Width: 24, Height: 8, Stacked: true,
				Query: "SELECT toStartOfDay(time, 'UTC') AS day, if(baseline_stable, 'stable', 'learning') AS baseline, count() AS findings\nFROM findings\nWHERE $__timeFilter(time) AND " + ofRepositories +
					"\nGROUP BY day, baseline\nORDER BY day, baseline"},
		},
	}
}

func findings() Dashboard {
	where := "FROM findings\nWHERE $__timeFilter(time) AND " + ofRepositories
	count := func(title, severity string) Panel {
		return Panel{Title: title, Description: "Findings of severity " + severity + ".", Kind: Stat, Width: 6, Height: 4,
			Query: "SELECT count() AS findings\n" + where + " AND severity = '" + severity + "'"}
	}
	return Dashboard{
		UID: "sallyport-findings", Title: "Findings", From: "now-30d", Refresh: "1m",
		Description: "What policies held to be wrong, over all repositories.",
		Variables:   []Variable{repositories},
		Panels: []Panel{
			count("Critical", "critical"), count("High", "high"), count("Medium", "medium"), count("Low", "low"),
			{Title: "Findings a day", Description: "By severity.", Kind: TimeSeries, Width: 16, Height: 8, Stacked: true,
				Query: "SELECT toStartOfDay(time, 'UTC') AS day, severity, count() AS findings\n" + where + "\nGROUP BY day, severity\nORDER BY day, severity"},
			{Title: "Policies", Description: "Which policies speak, and in how many jobs.", Kind: Table, Width: 8, Height: 8,
				Query: "SELECT policy, technique, max(severity) AS severity, count() AS findings, uniqExact((repository, workflow, job)) AS jobs\n" + where + "\nGROUP BY policy, technique\nORDER BY findings DESC, policy"},
			{Title: "Findings", Description: "Newest first. The run leads to everything that it did.", Kind: Table, Width: 24, Height: 14, Run: true,
				Query: "SELECT time, severity, class, policy, repository, workflow, run_id, job, step, program, target, message, id\n" + where + "\nORDER BY time DESC\nLIMIT 500"},
			{Title: "Repositories", Description: "Those with most findings.", Kind: Table, Width: 12, Height: 9,
				Query: "SELECT repository, count() AS findings, countIf(severity >= 'high') AS high_or_critical, uniqExact(run_id) AS runs, max(time) AS last\n" + where + "\nGROUP BY repository\nORDER BY high_or_critical DESC, findings DESC, repository\nLIMIT 100"},
			{Title: "The same in many runs", Description: "By fingerprint: what comes again and again wants a decision.", Kind: Table, Width: 12, Height: 9,
				Query: "SELECT policy, repository, job, target, count() AS findings, uniqExact(run_id) AS runs, max(time) AS last, fingerprint\n" + where +
					" AND fingerprint != ''\nGROUP BY fingerprint, policy, repository, job, target\nORDER BY runs DESC, fingerprint\nLIMIT 100"},
		},
	}
}

func agents() Dashboard {
	where := "FROM agent_status\nWHERE $__timeFilter(time) AND $__conditionalAll(hostname IN (${hostname:singlequote}), $hostname)"
	// Counts are totals of an agent's life.
	lives := "(\n    SELECT agent_id, epoch, max(events_seen) - min(events_seen) AS seen,\n" +
		"        arraySum(mapValues(argMax(events_lost, time))) - arraySum(mapValues(argMin(events_lost, time))) AS lost\n    " + where + "\n    GROUP BY agent_id, epoch\n)"
	return Dashboard{
		UID: "sallyport-agents", Title: "Agents: health and loss", From: "now-24h", Refresh: "1m",
		Description: "Whether agents live, keep up, and lose nothing.",
		Variables: []Variable{{
			Name: "hostname", Label: "Machine", Several: true,
			Query: "SELECT DISTINCT hostname FROM agent_status WHERE $__timeFilter(time) ORDER BY hostname LIMIT 2000",
		}},
		Panels: []Panel{
			{Title: "Agents", Description: "That said anything in the time shown.", Kind: Stat, Width: 6, Height: 4,
				Query: "SELECT uniqExact(agent_id) AS agents\n" + where},
			{Title: "Events seen", Description: "Events read from the kernel.", Kind: Stat, Width: 6, Height: 4,
				Query: "SELECT sum(seen) AS seen\nFROM " + lives},
			{Title: "Events lost", Description: "Events that an agent counted as lost. Anything but 0 wants a look.", Kind: Stat, Width: 6, Height: 4,
				Query: "SELECT sum(lost) AS lost\nFROM " + lives},
			{Title: "Damaged or killed", Description: "Agents of whose hold on the kernel something was taken, or whose predecessor was killed.", Kind: Stat, Width: 6, Height: 4,
				Query: "SELECT uniqExactIf(agent_id, notEmpty(damage) OR previous_end = 'killed') AS agents\n" + where},
			{Title: "Events seen", Description: "By kernel release.", Kind: TimeSeries, Width: 12, Height: 8, Stacked: true,
				Query: "SELECT t, kernel, sum(seen) AS seen\nFROM (\n    SELECT $__timeInterval(time) AS t, agent_id, epoch, any(kernel) AS kernel, max(events_seen) - min(events_seen) AS seen\n    " + where +
					"\n    GROUP BY t, agent_id, epoch\n)\nGROUP BY t, kernel\nORDER BY t, kernel"},
			{Title: "Events lost", Description: "By kind of event.", Kind: TimeSeries, Width: 12, Height: 8, Stacked: true,
				Query: "SELECT t, kind, sum(lost) AS lost\nFROM (\n    SELECT $__timeInterval(time) AS t, agent_id, epoch, kind, max(n) - min(n) AS lost\n    FROM (\n        SELECT time, agent_id, epoch, mapKeys(events_lost) AS kinds, mapValues(events_lost) AS counts\n        " + where +
					"\n    )\n    ARRAY JOIN kinds AS kind, counts AS n\n    GROUP BY t, agent_id, epoch, kind\n)\nGROUP BY t, kind\nORDER BY t, kind"},
			{Title: "Batches waiting", Description: "For the network, at most at one time, on any machine.", Kind: TimeSeries, Width: 12, Height: 8,
				Query: "SELECT $__timeInterval(time) AS t, max(batches_waiting) AS batches\n" + where + "\nGROUP BY t\nORDER BY t"},
			{Title: "Longest pause", Description: "In which an agent did not run. Much more than a second: it was stopped, or its machine was.", Kind: TimeSeries, Width: 12, Height: 8, Unit: "ns",
				Query: "SELECT $__timeInterval(time) AS t, max(longest_pause_nano) AS pause\n" + where + "\nGROUP BY t\nORDER BY t"},
			{Title: "Agents", Description: "Those that lost most, then those silent for longest.", Kind: Table, Width: 24, Height: 12,
				Query: "SELECT hostname, agent_id, argMax(version, time) AS version, argMax(kernel, time) AS kernel, max(time) AS last_heard,\n" +
					"    max(epoch) - min(epoch) > 0 AS restarted, arraySum(mapValues(argMax(events_lost, time))) AS lost, max(batches_waiting) AS most_waiting,\n" +
					"    arrayStringConcat(arrayDistinct(arrayFlatten(groupArray(damage))), '; ') AS damage\n" + where + "\nGROUP BY hostname, agent_id\nORDER BY lost DESC, last_heard, hostname\nLIMIT 1000"},
		},
	}
}
