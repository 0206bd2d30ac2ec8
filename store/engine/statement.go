package engine

import (
	"strings"

	"github.com/sallyport-ci/sallyport/store/sqltoken"
)

// A statement is what can be said of SQL text before the engine sees it.
type statement struct {
	// text goes to the engine: the whole, or for an insert with rows the part before
	// FORMAT or VALUES.
	text string
	// takesRows: it is an INSERT whose rows follow.
	takesRows bool
	// rowsAt is where in the source the rows begin, if takesRows.
	rowsAt int
	// values: the rows stand behind the keyword VALUES, as SQL.
	values bool
	// format is named by a FORMAT clause; empty if there is none.
	format string
	// selects: it begins as a query whose output can be streamed.
	selects bool
	// empty: nothing but space and comments.
	empty bool
	// complete is false when the text ended before it was clear where the rows begin.
	complete bool
}

// parseStatement reads src. It never fails: what it does not understand is the
// engine's to refuse.
func parseStatement(src string) statement {
	lex := sqltoken.New(src, 0)
	first, ok := lex.Next()
	for ok && first.IsPunct("(") {
		first, ok = lex.Next()
	}
	if !ok {
		return statement{text: src, empty: true, complete: true}
	}
	if first.Is("INSERT") {
		return parseInsert(src, lex)
	}
	return statement{
		text: src, format: outputFormat(src), complete: true,
		selects: first.Is("SELECT") || first.Is("WITH") || first.Is("FROM"),
	}
}

// parseInsert reads on behind INSERT.
func parseInsert(src string, lex *sqltoken.Lexer) statement {
	whole := statement{text: src, complete: true}
	depth, named := 0, false
	prev := sqltoken.Token{}
	for {
		t, ok := lex.Next()
		if !ok {
			return statement{text: src, takesRows: true, rowsAt: len(src)}
		}
		switch {
		case t.IsPunct("("):
			depth++
			if inner, ok := sqltoken.New(src, lex.Pos()).Next(); depth == 1 && ok && (inner.Is("SELECT") || inner.Is("WITH")) {
				return whole
			}
		case t.IsPunct(")"):
			depth--
		case t.IsPunct(";"):
			return whole
		case depth > 0:
		case !named:
			// INTO [TABLE|FUNCTION] name[.name]: a table may be called format or values.
			named = t.IsName() && !t.Is("INTO") && !t.Is("TABLE") && !t.Is("FUNCTION")
		case prev.IsPunct("."):
		case t.Is("SELECT"), t.Is("WITH"), t.Is("WATCH"), t.Is("FROM"):
			return whole
		case t.Is("VALUES"):
			return statement{text: src[:t.Start], takesRows: true, values: true, format: "Values", rowsAt: t.End, complete: true}
		case t.Is("FORMAT"):
			name, ok := lex.Next()
			if !ok || !name.IsName() {
				return whole
			}
			return statement{text: src[:t.Start], takesRows: true, format: name.Text, rowsAt: skipToRows(src, name.End), complete: true}
		}
		prev = t
	}
}

// skipToRows moves over blanks and one line end behind the name of a format.
func skipToRows(src string, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\t' || src[i] == '\f') {
		i++
	}
	if i < len(src) && src[i] == '\r' {
		i++
	}
	if i < len(src) && src[i] == '\n' {
		i++
	}
	return i
}

// outputFormat returns the name in the FORMAT clause at the end of a statement.
func outputFormat(src string) string {
	lex := sqltoken.New(src, 0)
	depth := 0
	for {
		t, ok := lex.Next()
		if !ok {
			return ""
		}
		switch {
		case t.IsPunct("("):
			depth++
		case t.IsPunct(")"):
			depth--
		case depth == 0 && t.Is("FORMAT"):
			ahead := sqltoken.New(src, lex.Pos())
			name, ok := ahead.Next()
			if !ok || !name.IsName() {
				continue
			}
			if after, more := ahead.Next(); !more || after.IsPunct(";") || after.Is("SETTINGS") {
				return name.Text
			}
		}
	}
}

// outwardFunctions reach files, programs or the network from within a query. The
// engine refuses most of them to a reader by itself (readonly=1); it does not refuse
// the scalar ones and DESCRIBE of the tabular ones, so none passes.
var outwardFunctions = map[string]bool{
	"file": true, "filecluster": true, "filesystem": true, "url": true, "urlcluster": true,
	"s3": true, "s3cluster": true, "s3queue": true, "gcs": true, "oss": true, "cosn": true,
	"hdfs": true, "hdfscluster": true, "azureblobstorage": true, "azureblobstoragecluster": true,
	"remote": true, "remotesecure": true, "cluster": true, "clusterallreplicas": true,
	"mysql": true, "postgresql": true, "mongodb": true, "redis": true, "sqlite": true,
	"odbc": true, "jdbc": true, "executable": true, "executablepool": true, "input": true,
	"iceberg": true, "icebergs3": true, "iceberglocal": true, "icebergazure": true, "iceberghdfs": true,
	"icebergcluster": true, "icebergs3cluster": true, "icebergazurecluster": true, "iceberghdfscluster": true,
	"deltalake": true, "deltalakes3": true, "deltalakelocal": true, "deltalakeazure": true, "deltalakecluster": true,
	"hudi": true, "hudicluster": true, "paimon": true, "paimons3": true, "paimonlocal": true, "hive": true,
	"ytsaurus": true, "arrowflight": true, "python": true, "catboostevaluate": true,
	"dictionary": false, "loop": false, "mergetreeindex": false,
}

// outwardFunction returns the first name in src that is used as a function and
// reaches outside the database, or that cannot be told not to, or "".
func outwardFunction(src string) string {
	lex := sqltoken.New(src, 0)
	prev, prev2 := sqltoken.Token{}, sqltoken.Token{}
	for {
		t, ok := lex.Next()
		if !ok {
			return ""
		}
		// A name with escapes in it could be any; no honest query needs one.
		if t.Kind == sqltoken.Word && !isASCII(t.Text) {
			// The engine takes curly quotes for quotes and knows more kinds of space.
			return t.Text
		}
		if t.Kind == sqltoken.Quoted && strings.IndexByte(src[t.Start:t.End], '\\') >= 0 {
			return src[t.Start:t.End]
		}
		if t.IsPunct("(") && prev.IsName() && outwardFunctions[strings.ToLower(prev.Text)] {
			return prev.Text
		}
		// SELECT * APPLY file, SELECT * APPLY(file).
		if t.IsName() && outwardFunctions[strings.ToLower(t.Text)] &&
			(prev.Is("APPLY") || prev.IsPunct("(") && prev2.Is("APPLY")) {
			return t.Text
		}
		prev2, prev = prev, t
	}
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
