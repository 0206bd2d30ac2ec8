package notify

import (
	"slices"
	"strings"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const rulesText = `sinks:
  oncall: {slack: {webhook-env: ONCALL}}
  channel: {slack-app: {channel: C0123456789, token-file: /run/secrets/slack}, repeat-window: 10m}
  siem: {webhook: {url-env: SIEM_URL, secret-env: SIEM_SECRET}}
routes:
  - sinks: [siem]
    continue: true
  - severity: critical
    sinks: [oncall, channel]
  - repository: acme/payments*
    policy: new_*
    sinks: [oncall]
  - severity: medium
    sinks: [channel]
quiet-hours:
  - zone: Europe/Berlin
    days: [mon, tue, wed, thu, fri]
    from: "20:00"
    to: "07:30"
  - sinks: [channel]
    zone: Europe/Berlin
    days: [sat, sun]
    from: "00:00"
    to: "24:00"
    except: high
limits:
  channel: {per-hour: 2, except: high}
`

func rules(t *testing.T, text string) *Rules {
	t.Helper()
	r, err := ParseRules("alerts.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRoutes(t *testing.T) {
	r := rules(t, rulesText)
	for _, c := range []struct {
		severity           sallyportv1.Severity
		repository, policy string
		want               string
	}{
		{4, "acme/shop", "new_endpoint", "siem oncall channel"},
		{4, "acme/payments", "new_endpoint", "siem oncall channel"},
		{1, "acme/payments-api", "new_endpoint", "siem oncall"},
		{1, "acme/payments", "mining", "siem"},
		{2, "acme/payments", "mining", "siem channel"},
		{1, "acme/shop", "new_endpoint", "siem"},
		{3, "", "new_endpoint", "siem channel"},
	} {
		f := &sallyportv1.Finding{Policy: &sallyportv1.Policy{Id: c.policy, Severity: c.severity}, Attribution: &sallyportv1.Attribution{Repository: c.repository}}
		if got := strings.Join(r.For(f), " "); got != c.want {
			t.Errorf("%+v goes to %q", c, got)
		}
	}
	if got := rules(t, "sinks:\n  b: {terminal: {}}\n  a: {terminal: {}}\n").For(&sallyportv1.Finding{}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("without routes: %v", got)
	}
}

func TestQuietHours(t *testing.T) {
	r := rules(t, rulesText)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const low, high, critical = sallyportv1.Severity_SEVERITY_LOW, sallyportv1.Severity_SEVERITY_HIGH, sallyportv1.Severity_SEVERITY_CRITICAL
	for _, c := range []struct {
		at       string
		sink     string
		severity sallyportv1.Severity
		until    string
	}{
		{"2026-11-24 19:59", "channel", low, ""},
		{"2026-11-24 20:00", "channel", low, "2026-11-25 07:30"}, // Tuesday
		{"2026-11-25 07:29", "oncall", high, "2026-11-25 07:30"},
		{"2026-11-25 07:30", "oncall", high, ""},
		{"2026-11-24 23:00", "oncall", critical, ""},
		{"2026-11-24 23:00", "siem", low, ""},                    // webhooks are not people
		{"2026-11-28 03:00", "channel", low, "2026-11-29 00:00"}, // Saturday: Friday's end at 7:30, Saturday's later
		{"2026-11-28 03:00", "channel", high, "2026-11-28 07:30"},
		{"2026-11-28 03:00", "oncall", low, "2026-11-28 07:30"},
		{"2026-11-28 12:00", "oncall", low, ""},
		{"2026-11-29 23:59", "channel", low, "2026-11-30 00:00"},
		{"2026-11-30 00:30", "channel", low, ""},                // Sunday night is not Monday's
		{"2027-03-26 21:00", "oncall", low, "2027-03-27 07:30"}, // Friday
		{"2027-10-29 21:00", "oncall", low, "2027-10-30 07:30"},
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", c.at, berlin)
		if err != nil {
			t.Fatal(err)
		}
		until, _ := r.Hold(c.sink, c.severity, at.UTC(), nil)
		got := ""
		if !until.IsZero() {
			got = until.In(berlin).Format("2006-01-02 15:04")
		}
		if got != c.until {
			t.Errorf("%s, %s, %s: until %q, want %q", c.at, c.sink, c.severity, got, c.until)
		}
	}
}

func TestLimits(t *testing.T) {
	r := rules(t, rulesText)
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ago := func(minutes ...int) (out []time.Time) {
		for _, m := range minutes {
			out = append(out, now.Add(-time.Duration(m)*time.Minute))
		}
		return out
	}
	for _, c := range []struct {
		sent     []time.Time
		severity sallyportv1.Severity
		wait     time.Duration
	}{
		{ago(50), 1, 0}, {ago(50, 10), 1, 10 * time.Minute}, {ago(60, 10), 1, 0}, {ago(50, 40, 10), 2, 20 * time.Minute}, {ago(50, 10), 3, 0},
	} {
		until, why := r.Hold("channel", c.severity, now, c.sent)
		got := time.Duration(0)
		if !until.IsZero() {
			got = until.Sub(now)
		}
		if got != c.wait || (why == "") != (c.wait == 0) {
			t.Errorf("%v: waits %s (%s), want %s", c.sent, got, why, c.wait)
		}
	}
}

// TestRulesRefuse has every fault named with its line.
func TestRulesRefuse(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"severity: critical", "severity: fatal"}:                               `line 8: severity "fatal" is not low`,
		{"    continue: true", "    continu: true"}:                             `line 7: there is no field "continu"`,
		{"repository: acme/payments*", `repository: "acme/[*"`}:                 `alerts.yaml:10: pattern "acme/[*"`,
		{"sinks: [oncall, channel]", "sinks: [oncall, chanel]"}:                 `alerts.yaml:8: there is no sink "chanel"`,
		{"zone: Europe/Berlin\n    days: [mon", "zone: Berlin\n    days: [mon"}: `alerts.yaml:16: there is no time zone "Berlin"`,
		{"[mon, tue,", "[monday, tue,"}:                                         `alerts.yaml:16: day "monday"`,
		{`"20:00"`, `"25:00"`}:                                                  `alerts.yaml:16: from: "25:00" is no time`,
		{`"20:00"`, `"2000"`}:                                                   `from: "2000" is no time`,
		{"per-hour: 2", "per-hour: 0"}:                                          "alerts.yaml:27: per-hour of sink channel is not 1 or more",
		{"limits:\n  channel", "limits:\n  chanel"}:                             `alerts.yaml:27: there is no sink "chanel"`,
		{"{slack: {webhook-env: ONCALL}}", "{}"}:                                "sink oncall: it is one of slack",
		{"{webhook-env: ONCALL}", "{webhook-env: A, webhook-file: b}"}:          "sink oncall: give its webhook by the name",
		{"{webhook-env: ONCALL}", "{webhook: https://x}"}:                       "field webhook not found",
		{"C0123456789", "#alerts"}:                                              "did not find expected",
		{"C0123456789", "alerts"}:                                               `channel "alerts" is no identity`,
		{"repeat-window: 10m", "repeat-window: ten"}:                            `"ten" is no time such as 5m`,
		{"  oncall: {slack", "  on call: {slack"}:                               "sink on call: its name is not",
		{rulesText, ""}:                        "EOF",
		{rulesText, "sinks: [{terminal: {}}]"}: "line 1: cannot unmarshal !!seq",
		{rulesText, "routes: []\n"}:            "there are no sinks",
	} {
		_, err := ParseRules("alerts.yaml", []byte(strings.Replace(rulesText, change[0], change[1], 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", change[1], err, want)
			continue
		}
		if strings.Contains(err.Error(), "notify.") {
			t.Errorf("%v names a Go type", err)
		}
	}
}

// FuzzParseRules: a file is read or refused, and what is read can be asked.
func FuzzParseRules(f *testing.F) {
	f.Add([]byte(rulesText))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRules("x", data)
		if err != nil {
			return
		}
		for s := range r.Sinks {
			r.Hold(s, 1, time.Unix(0, 0), nil)
		}
		r.For(&sallyportv1.Finding{})
	})
}
