package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-ci/sallyport/agent/control"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/summary"
)

// reportCommand prints what a job did.
var reportCommand = command{
	name: "report",
	valid: func(o *options) error {
		switch {
		case len(o.arguments) > 0:
			return fmt.Errorf("report takes flags only, not %q", o.arguments[0])
		case o.markdown && o.json:
			return errors.New("--markdown and --json are two forms: choose one")
		case o.wait < 0 || o.wait > control.MaxWait:
			return fmt.Errorf("--wait %s is not between 0 and %s", o.wait, control.MaxWait)
		}
		return nil
	},
	run: func(ctx context.Context, o *options) error {
		r, err := control.Report(ctx, o.socket, o.execution, o.wait)
		if err != nil {
			return err
		}
		return writeReport(os.Stdout, r, o)
	},
}

func writeReport(w io.Writer, r *sallyportv1.JobReport, o *options) error {
	switch {
	case o.json:
		data, err := protojson.MarshalOptions{UseProtoNames: true, Multiline: true}.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode report: %w", err)
		}
		if _, err := w.Write(append(data, '\n')); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		return nil
	case o.markdown:
		return summary.Job(w, r)
	default:
		return summary.Text(w, r)
	}
}

const (
	// summaryVariable names the file of a step's summary.
	summaryVariable = "GITHUB_STEP_SUMMARY"
	// maxStepSummary is what GitHub takes of one; of a longer one it shows nothing
	// (https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#step-isolation-and-limits).
	maxStepSummary = 1 << 20
	// hookWait is how long a hook gives the server to judge the job.
	hookWait = 1500 * time.Millisecond
)

// appendSummary appends a job's summary to the file of the step's. What would be too much
// for GitHub together with what is there is left out, for else nothing would be shown.
func appendSummary(path string, r *sallyportv1.JobReport) (err error) {
	var text strings.Builder
	if err := summary.Job(&text, r); err != nil {
		return err
	}
	// Neither a pipe nor a device may hold the hook up.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("append summary: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("append summary: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("append summary: %s is no file", path)
	}
	if info.Size()+int64(text.Len())+1 > maxStepSummary {
		return fmt.Errorf("append summary: the step's summary would be more than the %d KiB that GitHub shows", maxStepSummary>>10)
	}
	if _, err := f.WriteString("\n" + text.String()); err != nil {
		return fmt.Errorf("append summary: %w", err)
	}
	return nil
}
