// Package organisation answers which repositories of an organisation are looked at, and what
// their files say that harden knows.
//
// In goes a client of GitHub and a Selection; out come repositories, one by one or several at
// once, and the texts of their workflows, actions and whatever else is asked for. It writes
// nothing, keeps nothing, and judges nothing.
package organisation
