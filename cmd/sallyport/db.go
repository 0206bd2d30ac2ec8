package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine"
)

func newDBCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "db",
		Short:  "Run the embedded ClickHouse (started by `sallyport up`)",
		Long:   "Runs the embedded ClickHouse as `sallyport up` starts it: its settings come as one\nline of JSON on standard input, and it ends when standard input does.",
		Hidden: true,
		Args:   maximumArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if code := engine.RunChild(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()); code != 0 {
				return &exitError{code}
			}
			return nil
		},
	}
	cmd.AddCommand(newDBFetchCommand(), newDBSchemaCommand())
	return cmd
}

func newDBSchemaCommand() *cobra.Command {
	var database, cluster string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the statements that make the tables",
		Long: `Prints the statements that make database, tables and views from nothing, in the order
in which Sallyport runs them: for one server or, with --cluster, for a ClickHouse
cluster. For those who review what a program does to their ClickHouse; it is not needed
to run them by hand.`,
		Example: `  sallyport db schema
  sallyport db schema --cluster main --database ci | less`,
		Args: maximumArgs(0),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return setFromEnvironment(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			statements, err := store.Schema(database, cluster)
			if err != nil {
				return err
			}
			for _, s := range statements {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s;\n\n", s); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&database, "database", store.DefaultDatabase, "name of the database")
	cmd.Flags().StringVar(&cluster, "cluster", "", "name of the ClickHouse cluster; one server if empty")
	return cmd
}

func newDBFetchCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Fetch the embedded ClickHouse into the cache, once",
		Long: `Fetches the embedded ClickHouse (a shared library, 178 MB packed) through npm, checks
it against the digest that this program knows, and unpacks it into the user's cache.
Does nothing if it is there.`,
		Args: maximumArgs(0),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return setFromEnvironment(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := engine.Fetch(cmd.Context(), engine.FetchConfig{File: file, Progress: cmd.ErrOrStderr()})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "engine", "", "ClickHouse library or its npm archive, where there is no network to fetch it")
	return cmd
}
