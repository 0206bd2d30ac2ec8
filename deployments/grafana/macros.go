package grafana

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Choice is what a person has chosen above a dashboard.
type Choice struct {
	// From and To bound the time shown.
	From, To time.Time
	// Interval is the width of a bar, as Grafana computes it; a second at least.
	Interval time.Duration
	// Values of the variables; a variable without any has all.
	Values map[string][]string
}

var (
	conditionalAll = regexp.MustCompile(`\$__conditionalAll\(`)
	timeMacro      = regexp.MustCompile(`\$__(timeFilter|timeFilter_ms|dateFilter|timeInterval|fromTime|toTime|fromTime_ms|toTime_ms|interval_s)\b(\(([^()]*)\))?`)
	variable       = regexp.MustCompile(`\$\{(\w+)(?::(\w+))?\}`)
	leftover       = regexp.MustCompile(`\$(__\w+|\{\w+)`)
)

// Expand does to a query what Grafana and its ClickHouse data source do before they send
// it: macros and variables, as documented for version 4 of the data source. What it does
// not know is an error.
func Expand(query string, c Choice) (string, error) {
	for {
		at := conditionalAll.FindStringIndex(query)
		if at == nil {
			break
		}
		inside, end, err := arguments(query[at[1]:])
		if err != nil {
			return "", err
		}
		i := strings.LastIndexByte(inside, ',')
		if i < 0 {
			return "", fmt.Errorf("$__conditionalAll(%s) has one argument", inside)
		}
		condition, name := strings.TrimSpace(inside[:i]), strings.TrimPrefix(strings.TrimSpace(inside[i+1:]), "$")
		if len(c.Values[name]) == 0 {
			condition = "1=1"
		}
		query = query[:at[0]] + condition + query[at[1]+end:]
	}
	seconds := func(t time.Time) string { return fmt.Sprintf("toDateTime(%d)", t.Unix()) }
	millis := func(t time.Time) string { return fmt.Sprintf("fromUnixTimestamp64Milli(%d)", t.UnixMilli()) }
	day := func(t time.Time) string { return fmt.Sprintf("toDate('%s')", t.UTC().Format(time.DateOnly)) }
	between := func(column, from, to string) string {
		return column + " >= " + from + " AND " + column + " <= " + to
	}
	query = timeMacro.ReplaceAllStringFunc(query, func(found string) string {
		m := timeMacro.FindStringSubmatch(found)
		column := strings.TrimSpace(m[3])
		switch m[1] {
		case "timeFilter":
			return between(column, seconds(c.From), seconds(c.To))
		case "timeFilter_ms":
			return between(column, millis(c.From), millis(c.To))
		case "dateFilter":
			return between(column, day(c.From), day(c.To))
		case "timeInterval":
			return fmt.Sprintf("toStartOfInterval(toDateTime(%s), INTERVAL %d second)", column, max(int(c.Interval.Seconds()), 1))
		case "fromTime":
			return seconds(c.From) + m[2]
		case "toTime":
			return seconds(c.To) + m[2]
		case "fromTime_ms":
			return millis(c.From) + m[2]
		case "toTime_ms":
			return millis(c.To) + m[2]
		default: // interval_s
			return fmt.Sprint(max(int(c.Interval.Seconds()), 1)) + m[2]
		}
	})
	var unknown error
	query = variable.ReplaceAllStringFunc(query, func(found string) string {
		m := variable.FindStringSubmatch(found)
		values := c.Values[m[1]]
		if len(values) == 0 || m[2] != "singlequote" {
			unknown = fmt.Errorf("%s: no value, or a format other than singlequote", found)
			return found
		}
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = "'" + strings.ReplaceAll(v, "'", `\'`) + "'"
		}
		return strings.Join(quoted, ",")
	})
	if unknown == nil {
		if m := leftover.FindString(query); m != "" {
			unknown = fmt.Errorf("%s: no such macro or variable", m)
		}
	}
	return query, unknown
}

// arguments returns what stands before the bracket that closes, and where the rest begins.
func arguments(s string) (inside string, end int, err error) {
	depth := 1
	for i, r := range s {
		switch r {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return s[:i], i + 1, nil
			}
		}
	}
	return "", 0, fmt.Errorf("a bracket is not closed: %s", s)
}
