// Package systemd holds the units. The agent carries its own, so that what
// `sallyport-agent install` writes is what is here.
package systemd

import _ "embed"

// Agent is the unit of sallyport-agent.
//
//go:embed sallyport-agent.service
var Agent []byte
