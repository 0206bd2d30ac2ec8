package engine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
)

// An answer writes one response: headers, then output through the compression that
// the client asked for, or an error in the form that fits what was sent already.
type answer struct {
	w       http.ResponseWriter
	queryID string
	tag     string // marks an exception in the middle of output
	begun   bool
	body    io.Writer      // output goes here
	blocks  *blockWriter   // ClickHouse's compression, if asked for
	encoded io.WriteCloser // Content-Encoding, if asked for
}

// streamed are the formats whose pieces can simply follow each other. The library
// completes every piece by itself, so that a format with a head or a foot, such as
// JSON, must be made in one piece.
var streamed = map[string]string{
	"native": "Native", "rowbinary": "RowBinary", "tabseparated": "TabSeparated", "tsv": "TabSeparated",
	"tabseparatedraw": "TabSeparatedRaw", "tsvraw": "TabSeparatedRaw", "raw": "TabSeparatedRaw", "csv": "CSV",
	"jsoneachrow": "JSONEachRow", "jsonlines": "JSONEachRow", "ndjson": "JSONEachRow",
	"jsoncompacteachrow": "JSONCompactEachRow", "jsonstringseachrow": "JSONStringsEachRow", "tskv": "TSKV",
}

// answerStatement runs a statement without rows and writes its output.
func answerStatement(a *answer, s *session, st statement, q *request, r *http.Request) error {
	format := st.format
	if format == "" {
		format = q.defaultFormat
	}
	a.prepare(q, r, format)
	if streamed[strings.ToLower(format)] == "" || !st.selects || q.waitEnd {
		out, sum, err := s.exec(st.text, format, q.params)
		if err != nil {
			return err
		}
		a.begin(sum, format)
		return a.copyOutput(pieces(out), q, format)
	}
	stream, err := s.stream(st.text, format, q.params)
	if err != nil {
		return err
	}
	defer stream.close()
	first, err := stream.next()
	if err != nil {
		return err
	}
	a.begin(stream.sum, format)
	next := func() ([]byte, error) {
		if first != nil {
			piece := first
			first = nil
			return piece, nil
		}
		return stream.next()
	}
	return a.copyOutput(next, q, format)
}

// pieces gives one piece of output, then the end.
func pieces(out []byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		piece := out
		out = nil
		if len(piece) == 0 {
			return nil, nil
		}
		return piece, nil
	}
}

// prepare chooses compression; nothing is written yet.
func (a *answer) prepare(q *request, r *http.Request, format string) {
	h := a.w.Header()
	h.Set("Content-Type", contentType(format))
	if q.httpCompress {
		if name := chooseEncoding(r.Header.Get("Accept-Encoding")); name != "" {
			if z, err := encodeBody(a.w, name); err == nil {
				a.encoded = z
				h.Set("Content-Encoding", name)
			}
		}
	}
	a.body = a.w
	if a.encoded != nil {
		a.body = a.encoded
	}
	if q.compress {
		method := compress.LZ4
		if q.zstdBlocks {
			method = compress.ZSTD
		}
		a.blocks = newBlockWriter(a.body, method)
		a.body = a.blocks
	}
}

// begin sends the headers.
func (a *answer) begin(sum summary, format string) {
	h := a.w.Header()
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	a.tag = hex.EncodeToString(random[:])
	h.Set("X-ClickHouse-Query-Id", a.queryID)
	h.Set("X-ClickHouse-Server-Display-Name", "sallyport")
	h.Set("X-ClickHouse-Timezone", "UTC")
	h.Set("X-ClickHouse-Exception-Tag", a.tag)
	h.Set("X-ClickHouse-Summary", fmt.Sprintf(
		`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","total_rows_to_read":"0","result_rows":"%d","result_bytes":"0","elapsed_ns":"%d"}`,
		sum.readRows, sum.readBytes, sum.writtenRows, sum.writtenBytes, sum.resultRows, int64(sum.elapsedSeconds*1e9)))
	if format != "" {
		h.Set("X-ClickHouse-Format", format)
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", contentType(format))
	}
	a.begun = true
	a.w.WriteHeader(http.StatusOK)
}

// copyOutput writes all output, re-encoded for the client's protocol if it is Native.
func (a *answer) copyOutput(next func() ([]byte, error), q *request, format string) error {
	in := &pieceReader{next: next}
	var err error
	if q.protocol > 0 && strings.EqualFold(format, "Native") {
		err = reencodeNative(a.body, in, q.protocol)
	} else {
		_, err = io.Copy(a.body, in)
	}
	if in.err != nil {
		return in.err
	}
	if err != nil {
		return err
	}
	return a.end()
}

// end flushes what the compressions hold back.
func (a *answer) end() error {
	if a.blocks != nil {
		if err := a.blocks.flush(); err != nil {
			return err
		}
	}
	if a.encoded != nil {
		return a.encoded.Close()
	}
	return nil
}

// fail answers with an error: a status and text if nothing was sent yet, else a block
// at the end of the output, by which a client knows that the output is not whole.
func (a *answer) fail(err error) {
	var ex *exception
	if !errors.As(err, &ex) {
		ex = raise(codeUnknown, "UNKNOWN_EXCEPTION", err.Error())
	}
	if !a.begun {
		h := a.w.Header()
		h.Del("Content-Encoding")
		h.Set("Content-Type", "text/plain; charset=UTF-8")
		h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(ex.code))
		if a.queryID != "" {
			h.Set("X-ClickHouse-Query-Id", a.queryID)
		}
		a.w.WriteHeader(ex.status())
		_, _ = io.WriteString(a.w, ex.message+"\n") // a client that is gone needs no answer
		return
	}
	var to io.Writer = a.w
	if a.blocks != nil {
		_ = a.blocks.flush() // the error below is what counts
	}
	if a.encoded != nil {
		to = a.encoded
	}
	text := ex.message
	if len(text) > 16<<10 {
		text = text[:16<<10]
	}
	_, _ = fmt.Fprintf(to, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", a.tag, text, len(text)+1, a.tag)
	if a.encoded != nil {
		_ = a.encoded.Close()
	}
}

func contentType(format string) string {
	f := strings.ToLower(format)
	switch {
	case strings.Contains(f, "eachrow") || f == "ndjson" || f == "jsonlines":
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(f, "json"):
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(f, "csv"):
		return "text/csv; charset=UTF-8"
	case strings.HasPrefix(f, "tabseparated"), strings.HasPrefix(f, "tsv"):
		return "text/tab-separated-values; charset=UTF-8"
	case f == "native", strings.HasPrefix(f, "rowbinary"), f == "parquet", strings.HasPrefix(f, "arrow"), f == "orc":
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}
