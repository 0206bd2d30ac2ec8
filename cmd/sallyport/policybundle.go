package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/detector"
)

// policyBundle are the flags about a bundle of policies.
type policyBundle struct {
	url, keyFile, tokenFile string
	unsigned                bool
	interval                time.Duration
}

func (b *policyBundle) flags(f *pflag.FlagSet) {
	f.StringVar(&b.url, "policy-bundle", "", "OPA bundle of policies, URL or file, beside the built-in ones; read again every --policy-bundle-interval")
	f.StringVar(&b.keyFile, "policy-bundle-key", "", "file with the public key, in PEM, that the bundle must be signed with")
	f.StringVar(&b.tokenFile, "policy-bundle-token-file", "", "file with a bearer token for the bundle's server; or the token itself in SALLYPORT_POLICY_BUNDLE_TOKEN")
	f.BoolVar(&b.unsigned, "policy-bundle-unsigned", false, "take a bundle that is not signed")
	f.DurationVar(&b.interval, "policy-bundle-interval", time.Minute, "how often the bundle is looked at, 1s to 24h")
}

// config reads the files that the flags name. Dir keeps the last good bundle.
func (b *policyBundle) config(dir string) (c detector.BundleConfig, err error) {
	c = detector.BundleConfig{URL: b.url, Unsigned: b.unsigned, Dir: dir, Interval: b.interval}
	switch {
	case b.interval < time.Second || b.interval > 24*time.Hour:
		return c, usageError(fmt.Errorf("--policy-bundle-interval %s is not 1s to 24h", b.interval))
	case b.keyFile == "" && !b.unsigned:
		return c, usageError(errors.New("--policy-bundle needs --policy-bundle-key, or --policy-bundle-unsigned if anybody on the way may change it"))
	case b.keyFile != "" && b.unsigned:
		return c, usageError(errors.New("give either --policy-bundle-key or --policy-bundle-unsigned"))
	}
	if b.keyFile != "" {
		if c.PublicKey, err = os.ReadFile(b.keyFile); err != nil {
			return c, fmt.Errorf("read public key of the policy bundle: %w", err)
		}
	}
	c.Token = os.Getenv("SALLYPORT_POLICY_BUNDLE_TOKEN")
	if b.tokenFile != "" {
		token, err := os.ReadFile(b.tokenFile)
		if err != nil {
			return c, fmt.Errorf("read token for the policy bundle: %w", err)
		}
		c.Token = strings.TrimSpace(string(token))
	}
	return c, nil
}
