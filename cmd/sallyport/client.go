package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// clientOptions are the flags of every command that asks a server.
type clientOptions struct {
	data   string
	server string
	token  string
	json   bool
}

// clientHelp ends the help of every command that asks a server.
const clientHelp = `

Asks the "sallyport up" of this machine, found by its data folder, or the one at
--server (gRPC) with --token. Every flag is also an environment variable:
--server is SALLYPORT_SERVER.

Exit codes: 0 answered, 1 something failed, 2 wrong usage, 3 not found.`

// question makes a command that asks a server.
func question(cmd *cobra.Command, ask func(ctx context.Context, c *client, args []string) error) {
	var o clientOptions
	cmd.Long += clientHelp
	f := cmd.Flags()
	f.StringVar(&o.data, "data", defaultDataDir(), "data folder of the sallyport up to ask")
	f.StringVar(&o.server, "server", "", "gRPC address of the server to ask instead, HOST:PORT")
	f.StringVar(&o.token, "token", "", "token of that server; better in SALLYPORT_TOKEN, which others cannot see")
	f.BoolVar(&o.json, "json", false, "print JSON, one object a line, as the REST API gives it")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return setFromEnvironment(cmd) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := dial(o, cmd.OutOrStdout())
		if err != nil {
			return err
		}
		ctx := metadata.AppendToOutgoingContext(cmd.Context(), "authorization", "Bearer "+c.token)
		return errors.Join(c.explain(ask(ctx, c, args)), c.conn.Close())
	}
}

// client asks a server and prints answers.
type client struct {
	sallyportv1.SallyportServiceClient
	conn   *grpc.ClientConn
	server string
	token  string
	json   bool
	out    io.Writer
	now    time.Time
	colour terminal.Palette
}

func dial(o clientOptions, out io.Writer) (*client, error) {
	c := &client{server: o.server, token: o.token, json: o.json, out: out, now: time.Now()}
	if c.server == "" {
		a, err := readAddresses(o.data)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, noServer(o.data, "one with --server")
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%s belongs to another user: use sudo, or --server with --token", o.data)
		case err != nil:
			return nil, err
		}
		c.server = a.GRPC
		if c.token == "" {
			token, err := os.ReadFile(filepath.Join(o.data, tokenFile))
			if err != nil {
				return nil, fmt.Errorf("read token: %w", err)
			}
			c.token = strings.TrimSpace(string(token))
		}
	}
	if c.token == "" {
		return nil, usageError(errors.New("--server needs --token or SALLYPORT_TOKEN"))
	}
	if strings.Contains(c.server, "://") {
		return nil, usageError(fmt.Errorf("--server %q is a URL: it takes the address of the gRPC API, HOST:PORT", c.server))
	}
	var err error
	if c.conn, err = grpc.NewClient(c.server, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return nil, usageError(fmt.Errorf("--server %q: %w", c.server, err))
	}
	c.SallyportServiceClient = sallyportv1.NewSallyportServiceClient(c.conn)
	if f, ok := out.(*os.File); ok {
		c.colour.On = terminal.Coloured(f, os.LookupEnv)
	}
	return c, nil
}

// noServer is the error of who asks where no `sallyport up` runs; otherwise is how else to
// name one.
func noServer(data, otherwise string) error {
	const s = "no server runs with the data folder %s; start one with `sallyport up`, or name %s"
	if os.Geteuid() != 0 && data == defaultDataDir() {
		return fmt.Errorf(s+"; one that root started is asked with sudo", data, otherwise)
	}
	return fmt.Errorf(s, data, otherwise)
}

// explain turns the answer of a call that failed into words for a person.
func (c *client) explain(err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch s.Code() {
	case codes.NotFound:
		return &notFoundError{errors.New(s.Message())}
	case codes.InvalidArgument:
		return usageError(errors.New(s.Message()))
	case codes.Unavailable:
		return fmt.Errorf("ask %s: %s; is `sallyport up` running?", c.server, s.Message())
	default:
		return fmt.Errorf("ask %s: %s", c.server, s.Message())
	}
}

// printJSON prints one message as the REST API gives it, in one line.
func (c *client) printJSON(m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	_, err = fmt.Fprintf(c.out, "%s\n", text)
	return err
}

// table prints aligned columns; cells are escaped, since what jobs do comes from
// strangers.
func (c *client) table(head []string, rows [][]string) error { return printTable(c.out, head, rows) }

func printTable(out io.Writer, head []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, cell := range r {
			if cells[i] = terminal.Escape(cell); cells[i] == "" {
				cells[i] = "-"
			}
		}
		_, e := fmt.Fprintln(w, strings.Join(cells, "\t"))
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

// ago says how long before now something was.
func (c *client) ago(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	d := c.now.Sub(t.AsTime())
	switch {
	case d < 0:
		return "in the future"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return t.AsTime().Format(time.DateOnly)
	}
}

// took says how long something went on, "runs" while it does.
func took(from, to *timestamppb.Timestamp) string {
	if to == nil {
		return "running"
	}
	d := to.AsTime().Sub(from.AsTime())
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// pageLimit is how many rows are asked for at once.
const pageLimit = 500

// all asks for pages until there are enough rows or no more. want 0 means all.
func all[T any](want int, page func(size int32, token string) (rows []T, next string, err error)) ([]T, error) {
	var out []T
	token := ""
	for {
		size := pageLimit
		if want > 0 {
			size = min(size, want-len(out))
		}
		rows, next, err := page(int32(size), token)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
		if next == "" || want > 0 && len(out) >= want {
			return out, nil
		}
		token = next
	}
}

// newest prints rows, and that there may be more than the limit, which is 0 for all.
func (c *client) newest(limit int, head []string, rows [][]string) error {
	if err := c.table(head, rows); err != nil || limit == 0 || len(rows) < limit {
		return err
	}
	_, err := fmt.Fprintf(c.out, "These are the newest %d; there may be more (--limit 0 lists all).\n", limit)
	return err
}
