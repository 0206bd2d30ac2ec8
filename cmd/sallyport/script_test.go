package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-ci/sallyport/cmd/internal/scripttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": func() { os.Exit(run(os.Args[1:])) }})
}

// TestScripts runs testdata/script/*.txtar: what a person types, and what comes.
func TestScripts(t *testing.T) { scripttest.Run(t) }
