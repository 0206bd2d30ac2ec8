package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/sallyport-ci/sallyport/store/sqltoken"
)

// A scheme is how a DSN's first word says to talk to ClickHouse.
type scheme struct {
	protocol    clickhouse.Protocol
	tls         bool
	defaultPort string
}

var schemes = map[string]scheme{
	"http":        {clickhouse.HTTP, false, "8123"},
	"https":       {clickhouse.HTTP, true, "8443"},
	"clickhouse":  {clickhouse.Native, false, "9000"},
	"clickhouses": {clickhouse.Native, true, "9440"},
}

// parseDSN never repeats the DSN in an error: it holds a password.
func parseDSN(dsn string) (clickhouse.Options, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return clickhouse.Options{}, errors.New("the DSN is not a URL")
	}
	how, ok := schemes[u.Scheme]
	switch {
	case !ok:
		// What stands before the first colon may be a secret: it is not repeated.
		return clickhouse.Options{}, errors.New("the DSN's scheme must be http, https, clickhouse or clickhouses")
	case u.Hostname() == "":
		return clickhouse.Options{}, errors.New("the DSN names no host")
	case strings.Contains(u.Host, ","):
		return clickhouse.Options{}, errors.New("the DSN names several hosts: it must name one, or a load balancer")
	case u.Fragment != "":
		return clickhouse.Options{}, errors.New("the DSN has a #: write it as %23")
	}
	o := clickhouse.Options{
		Protocol:     how.protocol,
		Addr:         []string{u.Host},
		DialTimeout:  dialTimeout,
		ReadTimeout:  readTimeout,
		MaxOpenConns: connections,
		MaxIdleConns: connections,
	}
	if u.Port() == "" {
		o.Addr[0] = strings.TrimSuffix(u.Host, ":") + ":" + how.defaultPort
	}
	if how.tls {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	}
	if err := applyParameters(&o, u.RawQuery); err != nil {
		return clickhouse.Options{}, err
	}
	o.Auth.Username = u.User.Username()
	o.Auth.Password, _ = u.User.Password()
	o.Auth.Database = strings.Trim(u.Path, "/")
	if o.Auth.Database == "" {
		o.Auth.Database = DefaultDatabase
	}
	if strings.ContainsAny(o.Auth.Database, "`\\/\x00") {
		return clickhouse.Options{}, fmt.Errorf("the DSN's database %q has a forbidden character", o.Auth.Database)
	}
	return o, nil
}

// clusterOf returns the cluster that a DSN, which parseDSN has accepted, names; empty if
// none.
func clusterOf(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return ""
	}
	return u.Query().Get("cluster")
}

// applyParameters sets what stands behind the DSN's question mark: ca is a file of PEM
// certificates, trusted instead of the system's; cluster the name of a ClickHouse cluster
// that the tables are spread over.
func applyParameters(o *clickhouse.Options, query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the DSN's parameters cannot be read")
	}
	for name := range values {
		if name != "ca" && name != "cluster" {
			return errors.New("the DSN has a parameter other than ca and cluster")
		}
	}
	if name := values.Get("cluster"); values.Has("cluster") {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 127 || !sqltoken.IsWordByte(byte(r)) && r != '-' && r != '.' }) {
			return fmt.Errorf("the DSN's cluster %q is no name of letters, digits, '_', '-' and '.'", name)
		}
		// Inserts wait until the rows are on their shards; queries that join tables ask
		// every shard.
		o.Settings = clickhouse.Settings{"distributed_foreground_insert": 1, "distributed_product_mode": "global"}
	}
	if !values.Has("ca") {
		return nil
	}
	if o.TLS == nil {
		return errors.New("the DSN names a ca but its scheme has no TLS: write https or clickhouses")
	}
	file := values.Get("ca")
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the DSN's ca: %w", err)
	}
	o.TLS.RootCAs = x509.NewCertPool()
	if !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("the DSN's ca %s holds no certificate in PEM", file)
	}
	return nil
}
