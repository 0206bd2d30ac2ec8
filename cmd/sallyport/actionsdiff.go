package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

func newActionsDiffCommand() *cobra.Command {
	s := &actionsScope{}
	var asJSON, check bool
	cmd := &cobra.Command{
		Use:   "diff OLD [NEW]",
		Short: "Say which actions came, went or are used otherwise between two inventories",
		Long: `Compares two inventories: each is a file that sallyport actions list --json wrote, or the
folder of a checkout; with --org the second is what the organisation uses now. It says, for each
repository, which actions came and went, and which are used in another version or pinned
otherwise. What only moved to another file or line is no difference.

Exit codes: 0 compared; 1 with --check if there is a difference, or if something could not be
read; 2 wrong usage.`,
		Example: `  sallyport actions list --org acme --json >monday.json
  sallyport actions diff monday.json --org acme
  sallyport actions diff main-checkout pull-checkout --check`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return usageError(errors.New("give OLD and NEW, or OLD and --org"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, said := cmd.Context(), cmd.ErrOrStderr()
			if (s.Organisation != "") == (len(args) == 2) {
				return usageError(errors.New("give OLD and NEW, or OLD and --org"))
			}
			before, err := s.readInventory(cmd, args[0])
			if err != nil {
				return err
			}
			var after []*harden.UsedAction
			if s.Organisation != "" {
				after, err = s.inventory(ctx, nil, said)
			} else {
				after, err = s.readInventory(cmd, args[1])
			}
			if err != nil {
				return err // what could not be read would be said to be gone
			}
			changes := harden.DiffInventories(before, after)
			if err := printChanges(cmd.OutOrStdout(), changes, asJSON); err != nil {
				return err
			}
			if check && len(changes) > 0 {
				return &exitError{exitFailed}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON, one difference a line")
	f.BoolVar(&check, "check", false, "exit with 1 if there is a difference")
	s.flags(cmd)
	return cmd
}

// readInventory reads one from a file, or of a checkout, whose files are named from its top.
func (s *actionsScope) readInventory(cmd *cobra.Command, path string) ([]*harden.UsedAction, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, usageError(fmt.Errorf("read an inventory: %w", err))
	}
	if info.IsDir() {
		c, err := catalogue.Embedded()
		if err != nil {
			return nil, err
		}
		files, err := harden.Find([]string{path}, false)
		if err != nil {
			return nil, usageError(err)
		}
		all := harden.NewInventory(c)
		problems := all.AddFiles(files)
		if s.transitive {
			unknown, err := all.Follow(cmd.Context(), &harden.Remote{Server: s.server})
			if err != nil {
				return nil, err
			}
			problems = append(problems, unknown...)
		}
		for _, p := range problems {
			fmt.Fprintln(cmd.ErrOrStderr(), "sallyport:", terminal.Escape(p.Error()))
		}
		if len(problems) > 0 {
			return nil, &exitError{exitFailed}
		}
		return all.Used(), nil
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read an inventory: %w", err)
	}
	var out []*harden.UsedAction
	lines := bufio.NewReader(bytes.NewReader(text))
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			u := &harden.UsedAction{}
			if err := json.Unmarshal(line, u); err != nil || u.Name == "" {
				return nil, usageError(fmt.Errorf("read an inventory: %s:%d is no line of sallyport actions list --json", path, n))
			}
			out = append(out, u)
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read an inventory: %w", err)
		}
	}
}

func printChanges(out io.Writer, changes []harden.InventoryChange, asJSON bool) error {
	rows := make([][]string, 0, len(changes))
	for _, c := range changes {
		if asJSON {
			if err := printLine(out, c); err != nil {
				return err
			}
			continue
		}
		name := c.Action
		if c.Inside {
			name += " (inside others)"
		}
		rows = append(rows, []string{name, c.Repository, c.Kind, strings.Join(c.Before, ", "), strings.Join(c.After, ", ")})
	}
	if asJSON || len(rows) == 0 {
		return nil
	}
	return printTable(out, []string{"ACTION", "REPOSITORY", "WHAT", "BEFORE", "AFTER"}, rows)
}
