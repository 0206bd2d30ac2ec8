// Package grafana holds the dashboards for Grafana: what they ask is written here, and the
// files in provisioning/dashboards are made of it by go generate. A test runs every query
// as the reader and looks at what comes back.
package grafana

//go:generate go test -run TestFiles -update
