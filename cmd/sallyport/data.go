package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// defaultDataDir is where data lives unless --data says otherwise.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/sallyport"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sallyport")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "sallyport")
	}
	return filepath.Join(home, ".local", "share", "sallyport")
}

// Files below the data folder (docs/operating.md).
const (
	addressesFile     = "up.json"
	tokenFile         = "token"
	agentFile         = "agent.env"
	agentPasswordFile = "agent.password"
	ownerPasswordFile = "owner.password"
	readerFile        = "reader.password"
	// operatorPasswordFile is of NATS's user who may do everything: record, replay, dlq.
	operatorPasswordFile = "operator.password"
)

// addresses are where a running `sallyport up` listens.
type addresses struct {
	GRPC       string `json:"grpc"`
	REST       string `json:"rest"`
	NATS       string `json:"nats"`
	ClickHouse string `json:"clickhouse"`
	Metrics    string `json:"metrics"`
	// Webhooks is empty where no checks are kept.
	Webhooks string `json:"webhooks,omitempty"`
	// Public is where agents are let in; empty if they are not.
	Public string `json:"public,omitempty"`
}

func (a addresses) write(data string) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("write addresses: %w", err)
	}
	return writePrivate(filepath.Join(data, addressesFile), string(text)+"\n")
}

func readAddresses(data string) (a addresses, err error) {
	text, err := os.ReadFile(filepath.Join(data, addressesFile))
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("read %s: %w", filepath.Join(data, addressesFile), err)
	}
	return a, nil
}
