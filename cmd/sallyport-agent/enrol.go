package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/sallyport-ci/sallyport/agent/credential"
	"github.com/sallyport-ci/sallyport/stream"
)

// enrolKeyVariable has the enrolment key, if no file has it.
const enrolKeyVariable = "SALLYPORT_ENROL_KEY"

// enrolCommand enrols this machine at a server, once.
var enrolCommand = command{
	name: "enrol",
	valid: func(o *options) error {
		if len(o.arguments) > 0 {
			return fmt.Errorf("enrol takes no argument %q: the key comes from a file or from %s", o.arguments[0], enrolKeyVariable)
		}
		return nil
	},
	run: func(ctx context.Context, o *options) error { return o.enrol(ctx) },
}

func (o *options) enrol(ctx context.Context) error {
	if o.server == "" {
		return errors.New("enrol where? give the server's address as --server")
	}
	api, err := credential.NewAPI(o.server, o.serverCA)
	if err != nil {
		return err
	}
	key := os.Getenv(enrolKeyVariable)
	if o.enrolKey != "" {
		data, err := os.ReadFile(o.enrolKey)
		if err != nil {
			return fmt.Errorf("--enrol-key-file: %w", err)
		}
		key = string(data)
	}
	if key = strings.TrimSpace(key); key == "" {
		return fmt.Errorf("there is no enrolment key: put it into a file and name that as --enrol-key-file, or into %s", enrolKeyVariable)
	}
	if _, err := credential.LoadEnrolment(o.state); err == nil {
		return fmt.Errorf("this machine is enrolled already; remove %s to enrol it anew", filepath.Join(o.state, "enrolment.json"))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if o.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("read host name: %w", err)
		}
		o.name = nameOf(host)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("make the agent's nkey: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return fmt.Errorf("make the agent's nkey: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return fmt.Errorf("make the agent's nkey: %w", err)
	}
	c, err := api.Enrol(ctx, key, o.name, public)
	if err != nil {
		return fmt.Errorf("enrol as %s: %w", o.name, err)
	}
	ca := o.serverCA
	if ca != "" {
		if ca, err = filepath.Abs(ca); err != nil {
			return fmt.Errorf("find --server-ca: %w", err)
		}
	}
	if err := (&credential.Enrolment{Server: api.URL, ServerCA: ca, AgentID: c.GetAgentId(), Seed: string(seed)}).Keep(o.state); err != nil {
		return fmt.Errorf("the server has enrolled this machine as %s, and that is lost (sallyport enrol revoke it): %w", c.GetAgentId(), err)
	}
	fmt.Printf("enrolled as %s at %s\n", c.GetAgentId(), api.URL)
	return nil
}

// nameOf makes a name of a host's: its first part, and what is possible of that.
func nameOf(host string) string {
	host, _, _ = strings.Cut(host, ".")
	name := strings.Map(func(r rune) rune {
		if stream.ValidAgentID(string(r)) {
			return r
		}
		return '-'
	}, host)
	return name[:min(len(name), stream.MaxBoundName)]
}
