package engine

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport/store/sqltoken"
)

// A request is one HTTP request, understood: who asks, for what, and how the answer
// is to be written. The statement itself may still stand in the body.
type request struct {
	user, password string
	query          string // from the URL; the body follows it
	database       string
	queryID        string
	defaultFormat  string
	params         []parameter
	settings       []parameter
	compress       bool // answer in ClickHouse's compressed blocks
	decompress     bool // body in ClickHouse's compressed blocks
	zstdBlocks     bool // the blocks are to be ZSTD, not LZ4
	httpCompress   bool // Content-Encoding as the client accepts
	protocol       uint64
	waitEnd        bool
	get            bool
}

// parameters of the URL that steer the interface and are no settings of the engine.
var interfaceParameters = map[string]bool{
	"query": true, "database": true, "user": true, "password": true, "query_id": true,
	"default_format": true, "compress": true, "decompress": true,
	"client_protocol_version": true, "wait_end_of_query": true, "enable_http_compression": true,
	"network_compression_method": true,
	// Accepted without effect: every request is a session of its own, and there are
	// no quotas, roles or progress headers here.
	"session_id": true, "session_timeout": true, "session_check": true, "close_session": true,
	"quota_key": true, "role": true, "buffer_size": true, "stacktrace": true,
	"network_zstd_compression_level": true, "http_zlib_compression_level": true,
	"send_progress_in_http_headers": true, "http_headers_progress_interval_ms": true,
	"add_http_cors_header": true, "cancel_http_readonly_queries_on_client_close": true,
	"http_write_exception_in_output_format": true,
}

// parseRequest understands everything of r but its body.
func parseRequest(r *http.Request) (*request, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "Cannot parse the URL's parameters: "+err.Error())
	}
	q := &request{get: r.Method == http.MethodGet || r.Method == http.MethodHead}
	if err := q.credentials(r, values); err != nil {
		return nil, err
	}
	q.query = values.Get("query")
	q.database = values.Get("database")
	if q.database == "" {
		q.database = r.Header.Get("X-ClickHouse-Database")
	}
	q.queryID = values.Get("query_id")
	q.defaultFormat = values.Get("default_format")
	if q.defaultFormat == "" {
		q.defaultFormat = r.Header.Get("X-ClickHouse-Format")
	}
	if q.defaultFormat == "" {
		q.defaultFormat = "TabSeparated"
	}
	for name, into := range map[string]*bool{
		"compress": &q.compress, "decompress": &q.decompress,
		"wait_end_of_query": &q.waitEnd, "enable_http_compression": &q.httpCompress,
	} {
		if *into, err = parseFlag(values, name); err != nil {
			return nil, err
		}
	}
	if v := values.Get("client_protocol_version"); v != "" {
		if q.protocol, err = strconv.ParseUint(v, 10, 32); err != nil {
			return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "Cannot parse client_protocol_version "+strconv.Quote(v))
		}
	}
	switch m := strings.ToUpper(values.Get("network_compression_method")); m {
	case "", "LZ4", "LZ4HC", "NONE":
	case "ZSTD":
		q.zstdBlocks = true
	default:
		return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "Unknown network_compression_method "+strconv.Quote(m))
	}
	for name, vs := range values {
		v := vs[len(vs)-1]
		switch {
		case strings.HasPrefix(name, "param_"):
			q.params = append(q.params, parameter{strings.TrimPrefix(name, "param_"), v})
		case interfaceParameters[name]:
		case !isSettingName(name):
			return nil, raise(codeUnknownSetting, "UNKNOWN_SETTING", "Setting "+strconv.Quote(name)+" is neither a builtin setting nor started with the prefix")
		default:
			q.settings = append(q.settings, parameter{name, v})
		}
	}
	byName := func(a, b parameter) int { return strings.Compare(a.name, b.name) }
	slices.SortFunc(q.params, byName)
	slices.SortFunc(q.settings, byName)
	for _, s := range []string{q.database, q.queryID, q.defaultFormat} {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "A name in the request holds a zero byte")
		}
	}
	return q, nil
}

// credentials takes user and password from the first of the three places that has
// them: ClickHouse's headers, basic authentication, the URL.
func (q *request) credentials(r *http.Request, values url.Values) error {
	user, key := r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
	basicUser, basicPassword, basic := r.BasicAuth()
	switch {
	case user != "" || key != "":
		if basic {
			return raise(codeAuthenticationFailed, "AUTHENTICATION_FAILED", "Invalid authentication: it is not allowed to use X-ClickHouse HTTP headers and Authorization HTTP header simultaneously")
		}
		q.user, q.password = user, key
	case basic:
		q.user, q.password = basicUser, basicPassword
	default:
		q.user, q.password = values.Get("user"), values.Get("password")
	}
	if q.user == "" {
		q.user = "default"
	}
	return nil
}

func parseFlag(values url.Values, name string) (bool, error) {
	switch v := values.Get(name); v {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, raise(codeBadArguments, "BAD_ARGUMENTS", "Parameter "+name+" must be 0 or 1, not "+strconv.Quote(v))
	}
}

func isSettingName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if !sqltoken.IsWordByte(s[i]) || s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// readerSettings are the settings a reader may choose: how much work, and how the
// answer is written. Names that end in _ are prefixes.
var readerSettings = []string{
	"max_execution_time", "max_estimated_execution_time", "max_threads", "max_block_size", "max_result_rows", "max_result_bytes", "max_rows_to_read",
	"max_bytes_to_read", "max_memory_usage", "result_overflow_mode", "read_overflow_mode", "timeout_overflow_mode",
	"final", "join_use_nulls", "session_timezone", "date_time_output_format", "extremes", "limit", "offset", "log_comment", "log_queries",
	"output_format_", "group_by_overflow_mode", "prefer_column_name_to_alias", "use_query_cache", "interactive_delay", "readonly",
}

func readerMaySet(name string) bool {
	return slices.ContainsFunc(readerSettings, func(s string) bool {
		return s == name || strings.HasSuffix(s, "_") && strings.HasPrefix(name, s)
	})
}
