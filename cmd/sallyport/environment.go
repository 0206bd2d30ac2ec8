package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// setFromEnvironment sets each flag that was not given from the environment
// variable of its name: --slack-webhook from SALLYPORT_SLACK_WEBHOOK.
func setFromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || err != nil {
			return
		}
		name := "SALLYPORT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || value == "" {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			// The value may be a secret: only the name is said.
			err = usageError(fmt.Errorf("%s does not fit --%s, which takes a %s", name, f.Name, f.Value.Type()))
		}
	})
	return err
}
