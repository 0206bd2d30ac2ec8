// Package lab is a small internet of its own for the demo and for whole-system
// tests: a network namespace with a resolver, web servers on addresses and names
// that are reserved for documentation, and a metadata service, in which act runs
// real workflows. Nothing in it can reach anything else, and nothing of it is left
// when its process ends, however it ends.
package lab
