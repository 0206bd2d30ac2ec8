// Package credential answers: how does an agent come by what lets it publish? It asks the
// server (--server) for a credential, with the OIDC token of the job that it runs in or as
// an enrolled machine, keeps the newest one, and asks again before it ends. The nkey that a
// credential is for is made here and never leaves the machine.
package credential
