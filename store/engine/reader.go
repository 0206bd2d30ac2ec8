package engine

import (
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport/store/sqltoken"
)

// What a reader's statement may use at most. It can ask for less, not for more.
const (
	readerSeconds     = 60
	readerMemory      = 2 << 30 // bytes, or a quarter of the engine's if that is less
	readerRows        = 1_000_000
	readerResultBytes = 256 << 20
)

// readerLimits are the settings of every statement of a reader, by name, with the most
// that it may choose instead.
func readerLimits(memory int64) map[string]float64 {
	most := int64(readerMemory)
	if memory > 0 {
		most = min(most, memory/4)
	}
	return map[string]float64{
		"max_execution_time": readerSeconds, "max_memory_usage": float64(most),
		"max_result_rows": readerRows, "max_result_bytes": readerResultBytes,
	}
}

// limited returns the value of a reader's setting within its limit: 0 is no limit, and
// what is no number is refused by the engine.
func limited(value string, most float64) string {
	asked, err := strconv.ParseFloat(value, 64)
	if err == nil && (asked <= 0 || asked > most) {
		return strconv.FormatFloat(most, 'f', -1, 64)
	}
	return value
}

// tableFunctions are those that make rows of nothing but their arguments. Every other one
// that the engine has is refused to a reader, those of later versions too: they reach
// files, programs, the network or another server.
var tableFunctions = map[string]bool{
	"numbers": true, "numbers_mt": true, "zeros": true, "zeros_mt": true, "primes": true, "null": true, "values": true,
	"generateseries": true, "generate_series": true, "generaterandom": true, "view": true, "viewexplain": true, "viewifpermitted": true, "format": true,
}

// outwardFunctions are ordinary functions that reach outside, and table functions that the
// engine may not list. The engine refuses most tabular ones to a reader by itself
// (readonly=1); it does not refuse the scalar ones and DESCRIBE of the tabular ones.
var outwardFunctions = map[string]bool{
	"file": true, "catboostevaluate": true, "structuretocapnprotoschema": true, "structuretoprotobufschema": true,
	"url": true, "executable": true, "python": true, "input": true,
}

// systemTables are those that say nothing of what others ask or of the machine.
var systemTables = map[string]bool{
	"databases": true, "tables": true, "columns": true, "parts": true, "parts_columns": true, "functions": true, "table_functions": true,
	"data_type_families": true, "settings": true, "formats": true, "table_engines": true, "one": true, "numbers": true, "numbers_mt": true, "zeros": true,
	"build_options": true, "contributors": true, "licenses": true, "keywords": true, "completions": true, "collations": true, "time_zones": true,
	"aggregate_function_combinators": true, "data_skipping_indices": true, "dictionaries": true, "events": true, "metrics": true, "asynchronous_metrics": true,
}

// shown is what a reader may say behind SHOW.
var shown = map[string]bool{
	"tables": true, "databases": true, "columns": true, "fields": true, "create": true, "index": true, "indexes": true, "indices": true, "keys": true,
	"functions": true, "dictionaries": true, "full": true, "extended": true, "changed": true, "settings": true,
}

// forbidden returns what in a reader's statement reaches outside of the tables, or looks
// at what others do; empty if nothing does. Names that the lexer may read otherwise than
// the engine are refused: no honest query needs them.
func (d *database) forbidden(src string) string {
	lex := sqltoken.New(src, 0)
	var prev, prev2 sqltoken.Token
	first := true
	for {
		t, ok := lex.Next()
		if !ok {
			return ""
		}
		if t.Kind == sqltoken.Word && !isASCII(t.Text) {
			// The engine takes curly quotes for quotes and knows more kinds of space.
			return t.Text
		}
		if t.Kind == sqltoken.Quoted && strings.IndexByte(src[t.Start:t.End], '\\') >= 0 {
			return src[t.Start:t.End]
		}
		if t.IsPunct("(") && prev.IsName() && d.reachesOut(prev.Text) {
			return prev.Text
		}
		// SELECT * APPLY file, SELECT * APPLY(file).
		if t.IsName() && d.reachesOut(t.Text) && (prev.Is("APPLY") || prev.IsPunct("(") && prev2.Is("APPLY")) {
			return t.Text
		}
		if t.IsName() && prev.IsPunct(".") && prev2.IsName() && isSystem(prev2.Text) && !systemTables[strings.ToLower(t.Text)] {
			return prev2.Text + "." + t.Text
		}
		// A name that comes as a parameter is seen by the engine alone.
		if t.Is("Identifier") && prev.IsPunct(":") {
			return "a parameter of type Identifier"
		}
		if !first && prev.Is("SHOW") && t.Kind == sqltoken.Word && !shown[strings.ToLower(t.Text)] {
			return "SHOW " + t.Text
		}
		prev2, prev, first = prev, t, false
	}
}

func (d *database) reachesOut(name string) bool {
	name = strings.ToLower(name)
	return outwardFunctions[name] || d.tableFunctions[name] && !tableFunctions[name]
}

func isSystem(database string) bool { return strings.EqualFold(database, "system") }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
