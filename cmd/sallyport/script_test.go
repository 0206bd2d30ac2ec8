package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-ci/sallyport/cmd/internal/scripttest"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

func TestMain(m *testing.M) {
	testscript.Main(withEngine{m}, map[string]func(){
		"sallyport":   func() { os.Exit(run(os.Args[1:])) },
		"nats-server": func() { os.Exit(runNATSServer()) },
	})
}

// withEngine are the tests of this binary, which is a ClickHouse, too.
type withEngine struct{ *testing.M }

// Run implements testscript.TestingM.
func (w withEngine) Run() int { return enginetest.Run(w.M.Run) }

// TestScripts runs testdata/script/*.txtar: what a person types, and what comes.
func TestScripts(t *testing.T) { scripttest.Run(t) }
