// Package evasion tries to dodge the agent. Each file of programs is one trick, run as a
// step of a job on this machine while the real sensor and agent watch; the tables in
// network_test.go, file_test.go and process_test.go say what must be reported of it: by
// which process, in which step, with which name.
//
// What a trick hides is in its table as unseen, with the reason, and stands in
// docs/limits.md: the test fails when it is seen after all. docs/evasions.md lists the
// tricks for readers.
//
// Traffic goes to loopback and to network namespaces that the programs make.
package evasion
