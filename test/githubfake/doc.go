// Package githubfake stands for GitHub in tests: repositories with real git objects, references,
// pull requests, issues, releases, checks, Apps and their tokens, rate limits and faults, in
// memory, behind the paths of GitHub's REST and GraphQL interfaces.
//
// Every request is held to GitHub's own description of its API (contract/github.json, cut out of
// the npm package @octokit/openapi, and contract/github.graphql out of @octokit/graphql-schema),
// and so is every answer of the fake; what does not fit fails the test. Fields of answers that no
// test needs are filled with what the description allows.
package githubfake
