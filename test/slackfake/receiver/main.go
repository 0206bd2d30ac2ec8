// Command receiver is an incoming webhook like Slack's that prints what arrives. The
// demo uses it as the channel that people watch.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport/report/terminal"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	path := flag.String("path", "/services/T000/B000/demo", "path of the webhook")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	options := slackfake.RenderOptions{
		Colour: terminal.Coloured(os.Stdout, os.LookupEnv),
		Width:  terminal.Columns(os.Stdout),
	}
	receiver := slackfake.New(*path, func(m slackfake.Received) {
		fmt.Println(slackfake.Render(m.Message, options))
	})
	server := &http.Server{Handler: receiver, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(closing)
	})
	fmt.Printf("http://%s%s\n", l.Addr(), *path)
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return <-stopped
}
