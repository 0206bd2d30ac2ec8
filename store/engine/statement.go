package engine

import "strings"

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
	lex := &lexer{src: src}
	first, ok := lex.next()
	for ok && first.isPunct("(") {
		first, ok = lex.next()
	}
	if !ok {
		return statement{text: src, empty: true, complete: true}
	}
	if first.is("INSERT") {
		return parseInsert(src, lex)
	}
	return statement{
		text: src, format: outputFormat(src), complete: true,
		selects: first.is("SELECT") || first.is("WITH") || first.is("FROM"),
	}
}

// parseInsert reads on behind INSERT.
func parseInsert(src string, lex *lexer) statement {
	whole := statement{text: src, complete: true}
	depth, named := 0, false
	prev := token{}
	for {
		t, ok := lex.next()
		if !ok {
			return statement{text: src, takesRows: true, rowsAt: len(src)}
		}
		switch {
		case t.isPunct("("):
			depth++
			if inner, ok := (&lexer{src: src, pos: lex.pos}).next(); depth == 1 && ok && (inner.is("SELECT") || inner.is("WITH")) {
				return whole
			}
		case t.isPunct(")"):
			depth--
		case t.isPunct(";"):
			return whole
		case depth > 0:
		case !named:
			// INTO [TABLE|FUNCTION] name[.name]: a table may be called format or values.
			named = t.isName() && !t.is("INTO") && !t.is("TABLE") && !t.is("FUNCTION")
		case prev.isPunct("."):
		case t.is("SELECT"), t.is("WITH"), t.is("WATCH"), t.is("FROM"):
			return whole
		case t.is("VALUES"):
			return statement{text: src[:t.start], takesRows: true, values: true, format: "Values", rowsAt: t.end, complete: true}
		case t.is("FORMAT"):
			name, ok := lex.next()
			if !ok || !name.isName() {
				return whole
			}
			return statement{text: src[:t.start], takesRows: true, format: name.text, rowsAt: skipToRows(src, name.end), complete: true}
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
	lex := &lexer{src: src}
	depth := 0
	for {
		t, ok := lex.next()
		if !ok {
			return ""
		}
		switch {
		case t.isPunct("("):
			depth++
		case t.isPunct(")"):
			depth--
		case depth == 0 && t.is("FORMAT"):
			ahead := &lexer{src: src, pos: lex.pos}
			name, ok := ahead.next()
			if !ok || !name.isName() {
				continue
			}
			if after, more := ahead.next(); !more || after.isPunct(";") || after.is("SETTINGS") {
				return name.text
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
	lex := &lexer{src: src}
	prev, prev2 := token{}, token{}
	for {
		t, ok := lex.next()
		if !ok {
			return ""
		}
		// A name with escapes in it could be any; no honest query needs one.
		if t.kind == tokenWord && !isASCII(t.text) {
			// The engine takes curly quotes for quotes and knows more kinds of space.
			return t.text
		}
		if t.kind == tokenQuoted && strings.IndexByte(src[t.start:t.end], '\\') >= 0 {
			return src[t.start:t.end]
		}
		if t.isPunct("(") && prev.isName() && outwardFunctions[strings.ToLower(prev.text)] {
			return prev.text
		}
		// SELECT * APPLY file, SELECT * APPLY(file).
		if t.isName() && outwardFunctions[strings.ToLower(t.text)] &&
			(prev.is("APPLY") || prev.isPunct("(") && prev2.is("APPLY")) {
			return t.text
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
