# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: GitHub used to carry something out or to stay
# description: >-
#   A request to GitHub makes what stolen secrets leave by or what stays: a
#   repository, a gist, a key, a webhook, a secret, a workflow file, or anything in
#   the repositories of somebody else. The host is allowed everywhere; the path is
#   not. Quiet where a clean run of the job asked for the same.
# custom:
#   class: threat
#   kinds: [request]
#   severity: high
#   technique: T1567.001
#   also: [T1136.003, T1098, T1102]
#   remediation: >-
#     Look at what was made under the account that the token belongs to, remove it,
#     and revoke the token. If the job is meant to do so, approve it.
package sallyport.policies.api_abuse

violation contains {"message": message, "severity": severity} if {
	changes
	some pattern, about in made
	regex.match(pattern, path)
	severity := severities[about]
	message := sprintf("%s made %s at GitHub: %s %s", [input.behaviour.program, about, input.behaviour.method, input.behaviour.path])
}

violation contains {"message": message, "severity": "medium"} if {
	changes
	regex.match(`^/repos/[^/]+/[^/]+/(releases|contents|git|pulls|issues|dispatches|actions|merges|forks|deployments|environments|statuses|check-runs)`, path)
	not regex.match(`/forks$`, path)
	owner := lower(split(path, "/")[2])
	not contains(owner, "{")
	owner != lower(split(input.job.repository, "/")[0])
	input.job.repository != ""
	message := sprintf("%s changed a repository of %s, not of %s: %s %s", [input.behaviour.program, owner, split(input.job.repository, "/")[0], input.behaviour.method, input.behaviour.path])
}

changes if {
	input.behaviour.method in {"POST", "PUT", "PATCH", "DELETE"}
	not input.baseline.known
	github
}

github if input.behaviour.target in {"api.github.com", "uploads.github.com"}

github if startswith(input.behaviour.path, "/api/v3/")

path := trim_prefix(input.behaviour.path, "/api/v3") if startswith(input.behaviour.path, "/api/v3/")

path := input.behaviour.path if not startswith(input.behaviour.path, "/api/v3/")

made := {
	`^/(user|orgs/[^/]+)/repos$`: "a repository",
	`^/repos/[^/]+/[^/]+/generate$`: "a repository",
	`^/repos/[^/]+/[^/]+/transfer$`: "a transfer of a repository",
	`^/gists(/[^/]+)?$`: "a gist",
	`^/user/(keys|gpg_keys|ssh_signing_keys)$`: "a key",
	`^/repos/[^/]+/[^/]+/keys$`: "a key",
	`^/(repos/[^/]+/[^/]+|orgs/[^/]+)/hooks$`: "a webhook",
	`^/(repos/[^/]+/[^/]+|orgs/[^/]+)/actions/secrets/`: "a secret",
	`^/repos/[^/]+/[^/]+/contents/\.github/workflows/`: "a workflow file",
	`^/repos/[^/]+/[^/]+/collaborators/`: "a collaborator",
	`^/orgs/[^/]+/(memberships|invitations)`: "a member",
	`^/repos/[^/]+/[^/]+$`: "a change of a repository's settings",
}

severities := {
	"a repository": "high", "a transfer of a repository": "critical", "a gist": "medium", "a key": "high", "a webhook": "high", "a secret": "medium",
	"a workflow file": "high", "a collaborator": "high", "a member": "high", "a change of a repository's settings": "high",
}
