// Package harden answers one question: how does a workflow become safer? It reads workflows,
// composite actions, Dockerfiles and dependabot.yml, pins what they use, and puts the agent
// into every job, without changing a byte that it need not change.
//
// Files are never written anew from a tree. A Fix is a change of bytes together with what it means for
// the parsed tree, and is proved before it is taken: the changed text parses, its tree differs
// from the old one in that alone, actionlint has nothing new to say, and a second run finds
// nothing to do. What cannot be proved is reported and left as it is.
package harden
