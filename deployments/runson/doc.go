// Package runson holds what puts the agent onto machines of RunsOn; its test reads it.
package runson
