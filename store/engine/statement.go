package engine

import (
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
