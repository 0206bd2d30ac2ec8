package notify

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Rules say who is told of what, and when: docs/alerts.md describes the file that they are
// read from. They do not change; Router swaps them.
type Rules struct {
	// Sinks by name, with the form of each.
	Sinks map[string]SinkSpec
	// Routes in order. Without any, every sink is told of everything.
	Routes []Route
	// Quiet are the times at which sinks are left alone.
	Quiet []QuietHours
	// Limits by sink.
	Limits map[string]Limit
}

// SinkSpec is what a file says of a sink: one of its fields is set. Secrets are given by the
// name of an environment variable or of a file.
type SinkSpec struct {
	Slack    *SlackSpec    `yaml:"slack"`
	SlackApp *SlackAppSpec `yaml:"slack-app"`
	Webhook  *WebhookSpec  `yaml:"webhook"`
	Terminal *struct{}     `yaml:"terminal"`
	// RepeatWindow is how long findings like one that was told are gathered; 5 minutes by
	// default.
	RepeatWindow *Period `yaml:"repeat-window"`
}

// SlackSpec is an incoming webhook of Slack.
type SlackSpec struct {
	WebhookEnv  string `yaml:"webhook-env"`
	WebhookFile string `yaml:"webhook-file"`
}

// SlackAppSpec is a channel that an app with a bot token writes to.
type SlackAppSpec struct {
	Channel   string `yaml:"channel"`
	TokenEnv  string `yaml:"token-env"`
	TokenFile string `yaml:"token-file"`
}

// WebhookSpec is a receiver of one's own.
type WebhookSpec struct {
	URLEnv     string `yaml:"url-env"`
	URLFile    string `yaml:"url-file"`
	SecretEnv  string `yaml:"secret-env"`
	SecretFile string `yaml:"secret-file"`
}

// Route names the sinks that are told of some findings. Patterns are those of path.Match;
// one that is empty is any.
type Route struct {
	Severity   Severity `yaml:"severity"`
	Repository string   `yaml:"repository"`
	Policy     string   `yaml:"policy"`
	Sinks      []string `yaml:"sinks"`
	// Continue asks the routes after this one, too.
	Continue bool `yaml:"continue"`
	line     int
}

// QuietHours are times of some days at which sinks are not told of anything below a
// severity. What was found is told when they end.
type QuietHours struct {
	Sinks []string `yaml:"sinks"` // all but those of webhooks if empty
	Zone  string   `yaml:"zone"`
	Days  []string `yaml:"days"` // mon to sun; all if empty. The day is that on which they begin
	From  string   `yaml:"from"`
	To    string   `yaml:"to"`
	// Except is the least severity that is told all the same; critical by default.
	Except Severity `yaml:"except"`

	line     int
	location *time.Location
	from, to int // minutes of the day
	days     [7]bool
}

// Limit is how much a sink is told.
type Limit struct {
	// PerHour is the most messages within any hour.
	PerHour int `yaml:"per-hour"`
	// Except is the least severity that does not wait; it counts. Critical by default.
	Except Severity `yaml:"except"`
	line   int
}

// Severity is a severity by name in a file.
type Severity sallyportv1.Severity

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Severity) UnmarshalYAML(n *yaml.Node) error {
	v, ok := sallyportv1.Severity_value["SEVERITY_"+strings.ToUpper(n.Value)]
	if !ok || v == 0 {
		return fmt.Errorf("line %d: severity %q is not low, medium, high or critical", n.Line, n.Value)
	}
	*s = Severity(v)
	return nil
}

// Period is a time such as 5m in a file.
type Period time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Period) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(n.Value)
	if err != nil || d < 0 || d > 24*time.Hour {
		return fmt.Errorf("line %d: %q is no time such as 5m, at most 24h", n.Line, n.Value)
	}
	*p = Period(d)
	return nil
}

// UnmarshalYAML implements yaml.Unmarshaler: it notes the line. Decoding a node knows no
// strictness, so that the fields are looked at here.
func (r *Route) UnmarshalYAML(n *yaml.Node) error {
	type plain Route
	err := strict(n, (*plain)(r), "severity", "repository", "policy", "sinks", "continue")
	r.line = n.Line
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (q *QuietHours) UnmarshalYAML(n *yaml.Node) error {
	type plain QuietHours
	err := strict(n, (*plain)(q), "sinks", "zone", "days", "from", "to", "except")
	q.line = n.Line
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *Limit) UnmarshalYAML(n *yaml.Node) error {
	type plain Limit
	err := strict(n, (*plain)(l), "per-hour", "except")
	l.line = n.Line
	return err
}

func strict(n *yaml.Node, into any, fields ...string) error {
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; !slices.Contains(fields, key.Value) {
				return fmt.Errorf("line %d: there is no field %q, but %s", key.Line, key.Value, strings.Join(fields, ", "))
			}
		}
	}
	return n.Decode(into)
}

// rulesFile is the whole file.
type rulesFile struct {
	Sinks      map[string]SinkSpec `yaml:"sinks"`
	Routes     []Route             `yaml:"routes"`
	QuietHours []QuietHours        `yaml:"quiet-hours"`
	Limits     map[string]Limit    `yaml:"limits"`
}

// typeNames are what the YAML library says of Go types, which nobody who writes a file knows.
var typeNames = regexp.MustCompile(` (in|into) (type )?[][*a-z]*notify\.\w+`)

// ParseRules reads a file. The error names every fault that can be told apart, with its line.
func ParseRules(name string, data []byte) (*Rules, error) {
	var file rulesFile
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("read alert rules %s: %s", name, typeNames.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), ""))
	}
	r := &Rules{Sinks: file.Sinks, Routes: file.Routes, Quiet: file.QuietHours, Limits: file.Limits}
	var faults []error
	say := func(line int, format string, args ...any) {
		where := name
		if line > 0 {
			where = fmt.Sprintf("%s:%d", name, line)
		}
		faults = append(faults, fmt.Errorf("read alert rules %s: %s", where, fmt.Sprintf(format, args...)))
	}
	if len(r.Sinks) == 0 {
		say(0, "there are no sinks")
	}
	for n, s := range r.Sinks {
		if err := s.check(); err != nil || !sinkName.MatchString(n) {
			if err == nil {
				err = errors.New("its name is not 1 to 32 characters of [a-z0-9-]")
			}
			say(0, "sink %s: %v", n, err)
		}
	}
	known := func(line int, sinks []string) {
		for _, s := range sinks {
			if _, ok := r.Sinks[s]; !ok {
				say(line, "there is no sink %q", s)
			}
		}
	}
	for _, route := range r.Routes {
		known(route.line, route.Sinks)
		if len(route.Sinks) == 0 {
			say(route.line, "the route names no sinks; [] is not possible either: give the findings that nobody is told of a sink, or a higher severity to the others")
		}
		for _, p := range []string{route.Repository, route.Policy} {
			if _, err := path.Match(p, ""); err != nil {
				say(route.line, "pattern %q: %v", p, err)
			}
		}
	}
	for i := range r.Quiet {
		q := &r.Quiet[i]
		known(q.line, q.Sinks)
		if err := q.prepare(); err != nil {
			say(q.line, "%v", err)
		}
	}
	for n, l := range r.Limits {
		known(l.line, []string{n})
		if l.PerHour < 1 {
			say(l.line, "per-hour of sink %s is not 1 or more", n)
		}
		if l.Except == 0 {
			l.Except = Severity(sallyportv1.Severity_SEVERITY_CRITICAL)
			r.Limits[n] = l
		}
	}
	if len(faults) > 0 {
		slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(faults...)
	}
	return r, nil
}

func (s *SinkSpec) check() error {
	forms := 0
	one := func(what string, values ...string) error {
		n := 0
		for _, v := range values {
			if v != "" {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("give its %s by the name of an environment variable or of a file", what)
		}
		return nil
	}
	var err error
	if s.Slack != nil {
		forms++
		err = errors.Join(err, one("webhook", s.Slack.WebhookEnv, s.Slack.WebhookFile))
	}
	if s.SlackApp != nil {
		forms++
		err = errors.Join(err, one("token", s.SlackApp.TokenEnv, s.SlackApp.TokenFile))
		if !slackChannel.MatchString(s.SlackApp.Channel) {
			err = errors.Join(err, fmt.Errorf("channel %q is no identity such as C0123456789", s.SlackApp.Channel))
		}
	}
	if s.Webhook != nil {
		forms++
		err = errors.Join(err, one("url", s.Webhook.URLEnv, s.Webhook.URLFile), one("secret", s.Webhook.SecretEnv, s.Webhook.SecretFile))
	}
	if s.Terminal != nil {
		forms++
	}
	if forms != 1 {
		return errors.New("it is one of slack, slack-app, webhook, terminal")
	}
	return err
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (q *QuietHours) prepare() error {
	var err error
	if q.location, err = time.LoadLocation(q.Zone); err != nil {
		return fmt.Errorf("there is no time zone %q", q.Zone)
	}
	if q.from, err = minuteOf(q.From); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if q.to, err = minuteOf(q.To); err != nil {
		return fmt.Errorf("to: %w", err)
	}
	if len(q.Days) == 0 {
		q.Days = weekdays
	}
	for _, d := range q.Days {
		i := slices.Index(weekdays, strings.ToLower(d))
		if i < 0 {
			return fmt.Errorf("day %q is none of mon, tue, wed, thu, fri, sat, sun", d)
		}
		q.days[i] = true
	}
	if q.Except == 0 {
		q.Except = Severity(sallyportv1.Severity_SEVERITY_CRITICAL)
	}
	return nil
}

// minuteOf reads a time of the day; 24:00 is its end.
func minuteOf(text string) (int, error) {
	h, m, ok := strings.Cut(text, ":")
	hour, err := strconv.Atoi(h)
	minute, err2 := strconv.Atoi(m)
	if !ok || err != nil || err2 != nil || len(m) != 2 || hour < 0 || minute < 0 || minute > 59 || hour*60+minute > 24*60 {
		return 0, fmt.Errorf("%q is no time such as 07:30", text)
	}
	return hour*60 + minute, nil
}

// Router holds the rules in force. The zero Router has none. It is safe for concurrent use.
type Router struct{ rules atomic.Pointer[Rules] }

// Use puts rules in force.
func (r *Router) Use(rules *Rules) { r.rules.Store(rules) }

// Rules are those in force, nil if there are none.
func (r *Router) Rules() *Rules {
	if r == nil {
		return nil
	}
	return r.rules.Load()
}

// For returns the sinks that are told of a finding, in the order of the routes.
func (r *Rules) For(f *sallyportv1.Finding) []string {
	if len(r.Routes) == 0 {
		out := make([]string, 0, len(r.Sinks))
		for n := range r.Sinks {
			out = append(out, n)
		}
		slices.Sort(out)
		return out
	}
	var out []string
	for _, route := range r.Routes {
		if f.GetPolicy().GetSeverity() < sallyportv1.Severity(route.Severity) || !matches(route.Repository, f.GetAttribution().GetRepository()) ||
			!matches(route.Policy, f.GetPolicy().GetId()) {
			continue
		}
		for _, s := range route.Sinks {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
		if !route.Continue {
			break
		}
	}
	return out
}

func matches(pattern, value string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, value)
	return err == nil && ok
}

// Hold returns until when a sink is not to be told of something of a severity, and why; the
// zero time if it may be told now. Sent are the times of its last messages, oldest first.
func (r *Rules) Hold(sink string, severity sallyportv1.Severity, now time.Time, sent []time.Time) (until time.Time, why string) {
	for i := range r.Quiet {
		q := &r.Quiet[i]
		if severity >= sallyportv1.Severity(q.Except) || !r.quiets(q, sink) {
			continue
		}
		if end := q.end(now); end.After(until) {
			until, why = end, fmt.Sprintf("quiet hours, %s to %s", q.From, q.To)
		}
	}
	l, ok := r.Limits[sink]
	if !ok || severity >= sallyportv1.Severity(l.Except) {
		return until, why
	}
	within := slices.DeleteFunc(slices.Clone(sent), func(t time.Time) bool { return !t.After(now.Add(-time.Hour)) })
	if len(within) >= l.PerHour {
		if free := within[len(within)-l.PerHour].Add(time.Hour); free.After(until) {
			until, why = free, fmt.Sprintf("more than %d messages an hour", l.PerHour)
		}
	}
	return until, why
}

func (r *Rules) quiets(q *QuietHours, sink string) bool {
	if len(q.Sinks) > 0 {
		return slices.Contains(q.Sinks, sink)
	}
	return r.Sinks[sink].Webhook == nil
}

// end returns when the quiet hours that it is in end; the zero time if it is in none.
func (q *QuietHours) end(now time.Time) time.Time {
	local := now.In(q.location)
	var end time.Time
	for _, day := range []int{-1, 0} { // those that began yesterday may go on
		date := local.AddDate(0, 0, day)
		if !q.days[date.Weekday()] {
			continue
		}
		at := func(minutes int) time.Time {
			return time.Date(date.Year(), date.Month(), date.Day(), 0, minutes, 0, 0, q.location)
		}
		from, to := at(q.from), at(q.to)
		if q.to <= q.from {
			to = at(q.to + 24*60)
		}
		if !now.Before(from) && now.Before(to) && to.After(end) {
			end = to
		}
	}
	return end
}

// limited says whether messages to a sink are counted.
func (r *Rules) limited(sink string) bool {
	_, ok := r.Limits[sink]
	return ok
}
