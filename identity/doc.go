// Package identity answers: who is this agent, and what may it publish? It checks OIDC
// tokens of GitHub's jobs and enrolment keys, and gives credentials for NATS that are good
// for one agent and for a short time. It keeps which tokens were used, who is enrolled and
// who was refused in NATS buckets, so that several servers agree and a restart forgets
// nothing. It never sees an agent's private key.
//
// What the agent's side of it does is in agent/credential. docs/identity.md is for users.
package identity
