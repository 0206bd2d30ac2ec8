package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/doctor"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

type doctorOptions struct {
	streamOptions
	engine string
	json   bool
}

func newDoctorCommand() *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine and what runs on it, and say what to do",
		Long: `Checks the kernel, privileges, mounts, clocks, disk, the engine's library and, if a
"sallyport up" runs, NATS with its streams and ClickHouse with its tables, and the versions
of agents. It changes nothing. As root it also loads the agent's eBPF programs for a moment.

Each line says ok, warn (works, or not everybody needs it) or fail, what was found, and
what to do.` + streamsHelp + `

Exit codes: 0 nothing failed, 1 something failed, 2 wrong usage.`,
		Example: `  sudo sallyport doctor
  sallyport doctor --json | jq 'select(.state != "ok")'`,
		Args:    maximumArgs(0),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return o.prepare(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.check(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print JSON, one object a line")
	f.StringVar(&o.engine, "engine", "", "ClickHouse library or its npm archive, as given to sallyport up")
	o.flags(f)
	return cmd
}

func (o *doctorOptions) check(ctx context.Context, out io.Writer) error {
	all := doctor.CheckMachine(ctx, doctor.Machine{})
	all = append(all, doctor.CheckData(o.data)...)
	all = append(all, doctor.CheckEngine(o.engine)...)
	all = append(all, o.checkParts(ctx)...)
	var err error
	if o.json {
		err = all.WriteJSON(out)
	} else {
		err = all.WriteText(out, terminal.Escape)
	}
	if err == nil && all.Failed() {
		return &exitError{exitFailed}
	}
	return err
}

func (o *doctorOptions) checkParts(ctx context.Context) (all doctor.Results) {
	path := filepath.Join(o.data, addressesFile)
	if o.external.URL == "" {
		switch _, err := readAddresses(o.data); {
		case errors.Is(err, fs.ErrNotExist):
			return doctor.NotRunning(o.data)
		case errors.Is(err, fs.ErrPermission):
			return doctor.NotAllowed(o.data)
		case err != nil:
			return doctor.Unreachable("server", err, "remove "+path+" and restart sallyport up")
		}
	}
	const stale = "start it; if sallyport up was killed, its "
	if s, err := o.dial(); err != nil {
		all = append(all, doctor.Unreachable("nats", err, stale+path+" is of no more use")...)
	} else {
		all = append(all, doctor.CheckStreams(ctx, s.js, time.Now)...)
		s.close()
	}
	if known, err := o.tables(); err != nil {
		return append(all, doctor.Unreachable("clickhouse", err, "name the file with its DSN")...)
	} else if !known { // another NATS, and no ClickHouse that is known of
		return all
	}
	db, err := o.openStore(ctx)
	if err != nil {
		return append(all, doctor.Unreachable("clickhouse", err, stale+path+" is of no more use")...)
	}
	all = append(all, doctor.CheckTables(ctx, db, version, time.Now)...)
	if err := db.Close(); err != nil {
		all = append(all, doctor.Unreachable("clickhouse", err, "")...)
	}
	return all
}
