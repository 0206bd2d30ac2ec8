package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	headBytes      = 256 << 10 // an INSERT's statement, without its rows, must fit
	statementBytes = 16 << 20  // any other statement
	appendBytes    = 1 << 20   // rows handed to the engine at a time
)

// httpInterface answers ClickHouse's HTTP interface.
type httpInterface struct {
	db  *database
	cfg ServeConfig
}

func newInterface(db *database, cfg ServeConfig) http.Handler {
	return &httpInterface{db: db, cfg: cfg}
}

// ServeHTTP answers one request.
func (i *httpInterface) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/ping", r.URL.Path == "/replicas_status":
		writeText(w, http.StatusOK, "Ok.\n")
		return
	case r.URL.Path != "/":
		writeText(w, http.StatusNotFound, "There is no handle "+r.URL.Path+"\nUse / or /ping for health checks.\n")
		return
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, POST, HEAD, OPTIONS")
		writeText(w, http.StatusMethodNotAllowed, "Method "+r.Method+" is not supported.\n")
		return
	}
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.RawQuery == "" {
		writeText(w, http.StatusOK, "Ok.\n")
		return
	}
	a := &answer{w: w}
	if err := i.run(a, r); err != nil {
		a.fail(err)
	}
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a client that is gone needs no answer
}

// run understands the request and runs its statement.
func (i *httpInterface) run(a *answer, r *http.Request) error {
	q, err := parseRequest(r)
	if err != nil {
		return err
	}
	if q.queryID == "" {
		q.queryID = uuid.NewString()
	}
	a.queryID = q.queryID
	who, err := i.authenticate(q)
	if err != nil {
		return err
	}
	settings, limit, err := i.settings(q, who)
	if err != nil {
		return err
	}
	body, closeBody, err := openBody(r, q)
	if err != nil {
		return err
	}
	defer closeBody()
	longest := statementBytes
	if who.reader {
		longest = headBytes // a reader's statement is looked at closely, which takes time
	}
	st, rows, err := splitStatement(q.query, body, longest)
	if err != nil {
		return err
	}

	if st.empty {
		return raise(codeSyntaxError, "SYNTAX_ERROR", "Syntax error: failed at position 1 (end of query): Empty query")
	}

	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	waiting, stopWaiting := context.WithTimeout(ctx, slotWait)
	defer stopWaiting()
	s, err := i.db.open(waiting, "sallyport:"+uuid.NewString(), settings)
	if err != nil {
		return err
	}
	defer s.close()
	if who.reader && isSystem(q.database) {
		return raise(codeAccessDenied, "ACCESS_DENIED", q.user+": Not enough privileges: a reader names tables of system in full")
	}
	if q.database != "" && q.database != "default" {
		if _, _, err := s.exec("USE "+quoteName(q.database), "Null", nil); err != nil {
			return err
		}
	}
	if err := i.allowed(s, st, q, who); err != nil {
		return err
	}
	err = s.guard(ctx, func() error {
		if st.takesRows {
			return insertRows(a, s, st, q, rows)
		}
		return answerStatement(a, s, st, q, r)
	})
	if err != nil && ctx.Err() == context.DeadlineExceeded && r.Context().Err() == nil {
		return raise(codeTimeoutExceeded, "TIMEOUT_EXCEEDED", "Timeout exceeded: the statement ran for "+limit.String())
	}
	return err
}

// settings checks the request's settings against what the asker may choose, adds the
// limits, and returns how long the statement may run in all.
func (i *httpInterface) settings(q *request, who account) ([]parameter, time.Duration, error) {
	limit := i.cfg.MaxExecution
	var limits map[string]float64
	if who.reader {
		limits = readerLimits(i.cfg.MaxMemory)
		limit = min(limit, readerSeconds*time.Second)
	}
	out := make([]parameter, 0, len(q.settings)+6)
	for _, s := range q.settings {
		if most, ok := limits[s.name]; ok {
			s.value = limited(s.value, most)
		}
		switch {
		case !i.db.settings[s.name]:
			return nil, 0, raise(codeUnknownSetting, "UNKNOWN_SETTING", "Setting "+s.name+" is neither a builtin setting nor started with the prefix 'SQL_' registered for user-defined settings")
		case who.reader && !readerMaySet(s.name):
			return nil, 0, raise(codeReadonly, "READONLY", "Cannot modify '"+s.name+"' setting in readonly mode")
		case s.name == "max_execution_time":
			seconds, err := strconv.ParseFloat(s.value, 64)
			if err != nil || seconds < 0 || seconds > 1e9 {
				return nil, 0, raise(codeBadArguments, "BAD_ARGUMENTS", "Cannot parse max_execution_time "+strconv.Quote(s.value))
			}
			asked := time.Duration(seconds * float64(time.Second))
			if asked > 0 && (asked < limit || !who.reader) {
				limit = asked
			}
			continue
		case s.name == "readonly":
			if who.reader || q.get { // set below, and not to be loosened
				continue
			}
		}
		delete(limits, s.name)
		out = append(out, s)
	}
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		if name != "max_execution_time" {
			out = append(out, parameter{name, strconv.FormatFloat(limits[name], 'f', -1, 64)})
		}
	}
	switch {
	case who.reader:
		out = append(out, parameter{"readonly", "1"})
	case q.get:
		out = append(out, parameter{"readonly", "2"})
	}
	out = append(out, parameter{"max_execution_time", strconv.FormatFloat(limit.Seconds(), 'f', -1, 64)})
	// The engine's own limit names the statement's progress; ours, somewhat later, is
	// for what does not look at the clock.
	return out, limit + 2*time.Second, nil
}

// allowed refuses what must not reach the engine from this asker.
func (i *httpInterface) allowed(s *session, st statement, q *request, who account) error {
	if st.takesRows {
		if who.reader || q.get {
			return raise(codeReadonly, "READONLY", q.user+": Cannot execute query in readonly mode")
		}
		return nil
	}
	what, err := s.classify(st.text)
	if err != nil {
		return err
	}
	if what.StatementCount > 1 {
		return raise(codeSyntaxError, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
	}
	if !who.reader {
		return nil
	}
	if what.StatementCount == 1 && what.Class != classReadOnly {
		return raise(codeReadonly, "READONLY", q.user+": Cannot execute query in readonly mode")
	}
	if name := i.db.forbidden(st.text); name != "" {
		return raise(codeAccessDenied, "ACCESS_DENIED", q.user+": Not enough privileges: a reader may not use "+name)
	}
	return nil
}

// openBody undoes the encodings of the body.
func openBody(r *http.Request, q *request) (*bufio.Reader, func(), error) {
	plain, err := decodeBody(r.Body, r.Header.Get("Content-Encoding"))
	if err != nil {
		return nil, nil, bodyError(err)
	}
	var in io.Reader = plain
	if q.decompress {
		in = decodeBlocks(in)
	}
	return bufio.NewReaderSize(in, headBytes), func() { _ = plain.Close() }, nil
}

// splitStatement finds the statement, which stands in the URL, in the body, or begins
// in one and goes on in the other, and where its rows begin.
func splitStatement(inURL string, body *bufio.Reader, longest int) (statement, io.Reader, error) {
	if inURL != "" {
		st := parseStatement(inURL)
		if st.takesRows {
			if st.format == "" {
				st.format = "Values"
			}
			rows := io.MultiReader(strings.NewReader(inURL[st.rowsAt:]), body)
			return st, rows, nil
		}
	}
	head, err := body.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return statement{}, nil, bodyError(err)
	}
	whole := len(head) < headBytes
	if inURL == "" {
		st := parseStatement(string(head))
		switch {
		case st.takesRows && st.values && whole:
			// Few rows as SQL: the engine's own parser knows every form of them.
			return statement{text: string(head), complete: true}, nil, nil
		case st.takesRows && st.complete:
			rows := io.MultiReader(bytes.NewReader(slices.Clone(head[st.rowsAt:])), skipHead(body, len(head)))
			return st, rows, nil
		case st.takesRows && !whole:
			return statement{}, nil, raise(codeBadArguments, "BAD_ARGUMENTS", "The INSERT statement is longer than "+strconv.Itoa(headBytes)+" bytes before its rows")
		}
	}
	rest, err := io.ReadAll(io.LimitReader(body, int64(longest)+1))
	if err != nil {
		return statement{}, nil, bodyError(err)
	}
	if len(rest)+len(inURL) > longest {
		return statement{}, nil, raise(codeBadArguments, "BAD_ARGUMENTS", "The statement is longer than "+strconv.Itoa(longest)+" bytes")
	}
	text := string(rest)
	if inURL != "" {
		text = inURL
		if len(rest) > 0 {
			text += "\n" + string(rest)
		}
	}
	st := parseStatement(text)
	st.takesRows, st.text = false, text
	return st, nil, nil
}

// skipHead returns what comes after the n bytes that were peeked at.
func skipHead(body *bufio.Reader, n int) io.Reader {
	if _, err := body.Discard(n); err != nil {
		return strings.NewReader("")
	}
	return body
}

func bodyError(err error) error {
	var ex *exception
	if errors.As(err, &ex) {
		return ex
	}
	return raise(codeBadArguments, "BAD_ARGUMENTS", "Cannot read the request's body: "+err.Error())
}

// insertRows hands the rows to the engine as they come.
func insertRows(a *answer, s *session, st statement, q *request, rows io.Reader) error {
	in, err := s.insert(st.text, st.format, q.params)
	if err != nil {
		return err
	}
	defer in.close()
	buf := make([]byte, appendBytes)
	for {
		n, err := fill(rows, buf)
		if n > 0 {
			if _, werr := in.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// A body cut short must not insert a part of itself.
			in.cancel()
			return bodyError(err)
		}
	}
	sum, err := in.finish()
	if err != nil {
		return err
	}
	a.begin(sum, "")
	return a.end()
}

// fill reads until buf is full. Its error is io.EOF only at the true end of r, so that
// an end that came too early (io.ErrUnexpectedEOF from below) is not taken for one.
func fill(r io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// quoteName quotes an identifier.
func quoteName(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}
