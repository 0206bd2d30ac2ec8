package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/stream"
)

// Bounds from which something is said.
const (
	fewBytes   = 2 << 30
	noBytes    = 200 << 20
	fullWarn   = 0.80
	fullFail   = 0.95
	lagWarn    = time.Minute
	lagFail    = 10 * time.Minute
	skewWarn   = time.Second
	skewFail   = time.Minute
	askTimeout = 5 * time.Second
)

// CheckData looks at the data folder.
func CheckData(dir string) (r Results) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.add(Warn, "data", dir+" does not exist yet", "sallyport up makes it, or give --data")
		return r
	case errors.Is(err, fs.ErrPermission):
		r.add(Warn, "data", dir+" belongs to another user", "use sudo")
		return r
	case err != nil:
		r.add(Fail, "data", err.Error(), "give another folder with --data")
		return r
	case !info.IsDir():
		r.add(Fail, "data", dir+" is no folder", "remove it, or give another one with --data")
		return r
	case info.Mode().Perm()&0o077 != 0:
		r.add(Warn, "data", fmt.Sprintf("others may look into %s (%s): passwords are in it", dir, info.Mode().Perm()), "chmod 700 "+dir)
	default:
		r.add(OK, "data", dir, "")
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		r.add(Warn, "disk", "how much is free is not known: "+err.Error(), "")
		return r
	}
	free := s.Bavail * uint64(s.Bsize)
	found := fmt.Sprintf("%s free", bytes(free))
	switch {
	case free < noBytes:
		r.add(Fail, "disk", found, "make room: streams and tables stop when the disk is full (docs/limits.md)")
	case free < fewBytes:
		r.add(Warn, "disk", found, "make room: streams alone may take 9 GiB")
	default:
		r.add(OK, "disk", found, "")
	}
	return r
}

// CheckEngine looks for the library of the embedded ClickHouse.
func CheckEngine(file string) (r Results) {
	path, err := engine.Locate("", file)
	switch {
	case errors.Is(err, engine.ErrNoLibrary):
		r.add(Warn, "engine", "the library of the embedded ClickHouse ("+engine.Version+") is not in the cache of this user",
			"sallyport db fetch brings it, or sallyport up does at its first start")
	case err != nil:
		r.add(Fail, "engine", err.Error(), "sallyport db fetch brings it")
	default:
		r.add(OK, "engine", engine.Version+" at "+path, "")
	}
	return r
}

// skew says how far another clock is from ours, of which before and after are the times
// when it was asked and had answered.
func (r *Results) skew(check, whose string, theirs, before, after time.Time) {
	apart := theirs.Sub(before.Add(after.Sub(before) / 2))
	if theirs.After(before) && theirs.Before(after) {
		apart = 0
	}
	found := fmt.Sprintf("%s clock is %s from ours", whose, apart.Abs().Round(time.Millisecond))
	const advice = "let NTP keep the clocks of both machines"
	switch {
	case apart.Abs() > skewFail:
		r.add(Fail, check, found, advice)
	case apart.Abs() > skewWarn:
		r.add(Warn, check, found, advice)
	default:
		r.add(OK, check, found, "")
	}
}

// CheckStreams looks at NATS: its clock, the streams, and who lags behind. now is our clock.
func CheckStreams(ctx context.Context, js jetstream.JetStream, now func() time.Time) (r Results) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	account, err := js.AccountInfo(ctx)
	if err != nil {
		r.add(Fail, "nats", "JetStream does not answer: "+err.Error(), "start NATS with JetStream, as sallyport up does, and use credentials that may do everything")
		return r
	}
	nc := js.Conn()
	r.add(OK, "nats", fmt.Sprintf("version %s, %s stored", nc.ConnectedServerVersion(), bytes(account.Store)), "")
	first := true
	for _, name := range []string{stream.EventsStream, stream.FindingsStream, stream.DeadLettersStream} {
		before := now()
		s, err := js.Stream(ctx, name)
		after := now()
		if err != nil {
			r.add(Fail, "stream-"+strings.ToLower(name), err.Error(), "sallyport up declares the streams")
			continue
		}
		info := s.CachedInfo()
		if first {
			r.skew("nats-clock", "NATS's", info.TimeStamp, before, after)
			first = false
		}
		r.stream(ctx, s, info, after)
	}
	return r
}

func (r *Results) stream(ctx context.Context, s jetstream.Stream, info *jetstream.StreamInfo, now time.Time) {
	check := "stream-" + strings.ToLower(info.Config.Name)
	share := 0.0
	if info.Config.MaxBytes > 0 {
		share = float64(info.State.Bytes) / float64(info.Config.MaxBytes)
	}
	found := fmt.Sprintf("%d messages, %s of %s", info.State.Msgs, bytes(info.State.Bytes), bytes(max(info.Config.MaxBytes, 0)))
	if info.Config.Name == stream.DeadLettersStream {
		if info.State.Msgs > 0 {
			r.add(Warn, check, found, "sallyport dlq list says what could not be used, and why")
		} else {
			r.add(OK, check, "none", "")
		}
		return
	}
	var lag time.Duration
	if info.State.Msgs > 0 {
		lag = max(now.Sub(info.State.FirstTime), 0)
		found += fmt.Sprintf(", the oldest is %s old", lag.Round(time.Second))
	}
	var names, behind []string
	consumers := s.ListConsumers(ctx)
	for c := range consumers.Info() {
		if c.Config.Durable == "" {
			continue
		}
		names = append(names, c.Config.Durable)
		if waiting := c.NumPending + uint64(c.NumAckPending); waiting > 0 {
			behind = append(behind, fmt.Sprintf("%s lacks %d", c.Config.Durable, waiting))
		}
	}
	if err := consumers.Err(); err != nil {
		r.add(Fail, check, "its readers cannot be listed: "+err.Error(), "look into the log of NATS")
		return
	}
	slices.Sort(behind)
	if len(behind) > 0 {
		found += ": " + strings.Join(behind, ", ")
	}
	want := []string{stream.DetectorConsumer, stream.IngestConsumer}
	if info.Config.Name == stream.FindingsStream {
		want = []string{stream.NotifyConsumer, stream.IngestConsumer}
	}
	for _, w := range want {
		if !slices.ContainsFunc(names, func(n string) bool { return n == w || strings.HasPrefix(n, w+"-") }) {
			r.add(Fail, check, "nobody reads it as "+w, "restart sallyport up, which declares it: what is published meanwhile is not kept for it")
			return
		}
	}
	switch {
	case share >= fullFail:
		r.add(Fail, check, found+"; it is full: agents keep events on their disks", "look in the log of sallyport up why it is not read")
	case lag > lagFail:
		r.add(Fail, check, found, "look in the log of sallyport up why it is not read")
	case share >= fullWarn || lag > lagWarn:
		r.add(Warn, check, found, "if this goes on, look in the log of sallyport up why it is not read")
	default:
		r.add(OK, check, found, "")
	}
}

// CheckTables looks at ClickHouse: its clock, the version of the tables, and those of the
// agents that were seen, of which this program's is version. now is our clock.
func CheckTables(ctx context.Context, s *store.Store, version string, now func() time.Time) (r Results) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := s.Ping(ctx); err != nil { // connects, which the next question is not to be measured by
		r.add(Fail, "clickhouse", err.Error(), "start it; sallyport up starts its own one again by itself")
		return r
	}
	before := now()
	f, err := s.Inspect(ctx)
	after := now()
	if err != nil {
		r.add(Fail, "clickhouse", err.Error(), "look in the log of sallyport up")
		return r
	}
	r.add(OK, "clickhouse", "version "+f.Version, "")
	r.skew("clickhouse-clock", "ClickHouse's", f.Clock, before, after)
	found := fmt.Sprintf("version %d of %d", f.Schema, f.SchemaWanted)
	switch {
	case f.Schema == 0:
		r.add(Fail, "tables", "there are none", "sallyport up makes them")
	case f.Schema < f.SchemaWanted:
		r.add(Fail, "tables", found, "restart sallyport up with this program: it brings them up to date")
	case f.Schema > f.SchemaWanted:
		r.add(Warn, "tables", found+": a newer Sallyport made them", "use that one, here too")
	default:
		r.add(OK, "tables", found, "")
	}
	r.agents(f.Agents, version)
	return r
}

func (r *Results) agents(seen map[string]uint64, version string) {
	var list []string
	others := false
	for v, n := range seen {
		list = append(list, fmt.Sprintf("%d of version %s", n, v))
		others = others || v != version
	}
	slices.Sort(list)
	switch {
	case len(list) == 0:
		r.add(Warn, "agents", "none was heard of in the last 24 hours", "start sallyport-agent on the runners (docs/operating.md)")
	case others:
		r.add(Warn, "agents", strings.Join(list, ", ")+"; this is "+version, "use one version everywhere; agents hand over to the next one without a gap")
	default:
		r.add(OK, "agents", strings.Join(list, ", "), "")
	}
}

// NotRunning is the result when no `sallyport up` runs with a data folder.
func NotRunning(dir string) (r Results) {
	r.add(Warn, "server", "no sallyport up runs with the data folder "+dir+": NATS and ClickHouse were not looked at",
		"start it with sallyport up, or name its folder with --data")
	return r
}

// NotAllowed is the result when the data folder cannot be read.
func NotAllowed(dir string) (r Results) {
	r.add(Warn, "server", dir+" belongs to another user: NATS and ClickHouse were not looked at", "use sudo")
	return r
}

// Unreachable is the result when a part cannot be asked.
func Unreachable(check string, err error, advice string) (r Results) {
	r.add(Fail, check, err.Error(), advice)
	return r
}

// bytes writes a number of bytes as people read it.
func bytes[N int64 | uint64](n N) string {
	const kib = 1024.0
	f := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if f < kib {
			return fmt.Sprintf("%.4g %s", f, unit)
		}
		f /= kib
	}
	return fmt.Sprintf("%.4g GiB", f)
}
