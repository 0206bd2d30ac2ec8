package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// group is what one sink knows of findings of one kind. It is an entry of the
// bucket NOTIFY, under "<sink>.group.<key>".
type group struct {
	// Lead is the first finding, as protobuf, and Sequence its place in FINDINGS.
	Lead     []byte    `json:"lead"`
	LeadID   string    `json:"lead_id"`
	Sequence uint64    `json:"sequence"`
	Taken    time.Time `json:"taken"`
	// LeadTold is set once the lead has been told, or given up.
	LeadTold bool `json:"lead_told"`
	// WindowEnd is when repeats are told of next.
	WindowEnd time.Time `json:"window_end"`
	// Repeats wait to be told.
	Repeats []Repeat `json:"repeats,omitempty"`
	// Told are findings that have been told but whose marks may not say so yet.
	Told []string `json:"told,omitempty"`
	// InFlight is written before an attempt and taken away when its outcome is
	// known. Found at start, it means that nobody knows.
	InFlight bool `json:"in_flight,omitempty"`
	// Uncertain is set when an attempt may have arrived.
	Uncertain bool `json:"uncertain,omitempty"`
	// Attempts counts the attempts to tell what waits, Rejections those that the
	// target refused for good.
	Attempts   int `json:"attempts,omitempty"`
	Rejections int `json:"rejections,omitempty"`
	// Held is why what waits was held back, if it was.
	Held string `json:"held,omitempty"`

	key     string
	finding *sallyportv1.Finding // Lead, decoded
	// sending is how many of Repeats the message in flight carries.
	sending int
}

// mark is what one sink knows of one finding, under "<sink>.finding.<id>". It is
// written before the finding's message is acknowledged and keeps the finding until
// it has been told; after that it remains as the proof that it was.
type mark struct {
	Sequence uint64 `json:"sequence"`
	// Finding is the protobuf as it came; nil once told.
	Finding []byte `json:"finding,omitempty"`
}

// groupKey returns what findings that are alike have in common. Findings of a sink
// without a window are each alone.
func groupKey(f *sallyportv1.Finding, window time.Duration) string {
	if window == 0 {
		return f.GetId()
	}
	if f.GetFingerprint() != "" {
		return f.GetFingerprint()
	}
	h := sha256.New()
	a := f.GetAttribution()
	for _, s := range []string{
		f.GetPolicy().GetId(), a.GetRepository(), a.GetWorkflow(), a.GetJob(), f.GetBehaviour().GetTarget(),
	} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(s), s) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func decodeGroup(key string, data []byte) (*group, error) {
	g := &group{key: key}
	if err := json.Unmarshal(data, g); err != nil {
		return nil, fmt.Errorf("decode group %s: %w", key, err)
	}
	g.finding = new(sallyportv1.Finding)
	if err := proto.Unmarshal(g.Lead, g.finding); err != nil {
		return nil, fmt.Errorf("decode finding %s of group %s: %w", g.LeadID, key, err)
	}
	return g, nil
}

// waits says whether the group has something to tell now.
func (g *group) waits(now time.Time) bool {
	if !g.LeadTold {
		return true
	}
	return len(g.Repeats) > 0 && (!now.Before(g.WindowEnd) || len(g.Repeats) >= maxRepeats)
}

// over says whether the group can be forgotten: all is told, and its window ended
// without a repeat.
func (g *group) over(now time.Time) bool {
	return g.LeadTold && len(g.Repeats) == 0 && !now.Before(g.WindowEnd)
}

// item returns what a message says of the group, and remembers how much it says.
func (g *group) item() Item {
	g.sending = min(len(g.Repeats), maxRepeats)
	return Item{
		Finding:        g.finding,
		FollowUp:       g.LeadTold,
		More:           append([]Repeat(nil), g.Repeats[:g.sending]...),
		PossibleRepeat: g.Uncertain,
	}
}

// inMessage returns the findings that the message in flight tells of.
func (g *group) inMessage() []string {
	var ids []string
	if !g.LeadTold {
		ids = append(ids, g.LeadID)
	}
	for _, r := range g.Repeats[:g.sending] {
		ids = append(ids, r.ID)
	}
	return ids
}

// settle notes that the message in flight needs no further attempt.
func (g *group) settle(now time.Time, window time.Duration) {
	g.Told = append(g.Told, g.inMessage()...)
	g.LeadTold = true
	g.Repeats = append([]Repeat(nil), g.Repeats[g.sending:]...)
	g.WindowEnd = now.Add(window)
	g.sending, g.Attempts, g.Rejections = 0, 0, 0
	g.InFlight, g.Uncertain, g.Held = false, false, ""
}
