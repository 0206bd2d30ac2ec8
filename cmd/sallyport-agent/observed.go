package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/sallyport-ci/sallyport/agent/control"
)

// sayObserved tells the log of a job, in one line, whether an agent watches it: a job that
// is not observed is never passed in silence.
func sayObserved(ctx context.Context, log io.Writer, socket string) {
	err := awaitAgent(ctx, socket)
	if err == nil { // one that has been suspended listens, and looks at nothing
		_, err = control.AskStatus(ctx, socket)
	}
	if err != nil {
		// What a workflow command may hold as it is, by GitHub's toolkit.
		reason := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(err.Error())
		fmt.Fprintf(log, "::warning title=Sallyport::This job is not observed: %s\n", reason)
		return
	}
	fmt.Fprintf(log, "Sallyport observes this job (sallyport-agent %s).\n", version)
}
