// Package scripttest runs the scripts that specify the command lines.
package scripttest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Run runs testdata/script/*.txtar. Besides testscript's own there are the command
// `exits CODE PROGRAM ARGS…` (the program ends with that exit code) and the
// condition [root]. SALLYPORT_DATA is a folder of the script's own,
// REALHOME the user's home, RECORDINGS testdata/recordings.
func Run(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Condition: func(condition string) (bool, error) {
			if condition != "root" {
				return false, errors.New("no such condition")
			}
			return os.Geteuid() == 0, nil
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("SALLYPORT_DATA", e.WorkDir+"/data")
			e.Setenv("REALHOME", os.Getenv("HOME")) // where the engine is cached
			recordings, err := filepath.Abs("../../testdata/recordings")
			if err != nil {
				return err
			}
			e.Setenv("RECORDINGS", recordings)
			return nil
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
