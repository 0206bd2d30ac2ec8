package stream

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a dead letter.
const (
	// ReasonHeader says why a part could not use the message.
	ReasonHeader = "Sallyport-Reason"
	// OriginStreamHeader names the stream that the message came from.
	OriginStreamHeader = "Sallyport-Origin-Stream"
	// OriginSequenceHeader is its sequence there.
	OriginSequenceHeader = "Sallyport-Origin-Sequence"
	// OriginSubjectHeader is the subject on which it was published.
	OriginSubjectHeader = "Sallyport-Origin-Subject"
	// OriginIDHeader is the Nats-Msg-Id that it had there.
	OriginIDHeader = "Sallyport-Origin-Id"
)

// OnlyHeader names, on a message of EVENTS or FINDINGS, the part that it is for: a dead
// letter that came back. Other parts pass over it, but ingest, which recognises what it has.
const OnlyHeader = "Sallyport-Only"

// ForOther says whether a message is for another part than this one.
func ForOther(m jetstream.Msg, part string) bool {
	only := m.Headers().Get(OnlyHeader)
	return only != "" && only != part
}

// DeadLetterSubject returns the subject of a part's dead letters.
func DeadLetterSubject(part string) string { return deadLetterPrefix + part }

// DeadLetterPart returns the part whose dead letters have a subject.
func DeadLetterPart(subject string) string { return strings.TrimPrefix(subject, deadLetterPrefix) }

// maxReason bounds the reason in a header, in bytes.
const maxReason = 1024

// PublishDeadLetter keeps a message that part ("ingest", "detector", "notify")
// cannot use: its body untouched, the reason and the origin in headers. It waits
// until the stream DEADLETTERS has stored it; only then may the message be
// acknowledged. The same message of the same part is kept once.
func PublishDeadLetter(ctx context.Context, js jetstream.JetStream, part string, m jetstream.Msg, reason error) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("keep dead letter of %s: read metadata: %w", m.Subject(), err)
	}
	sequence := strconv.FormatUint(meta.Sequence.Stream, 10)
	letter := &nats.Msg{Subject: deadLetterPrefix + part, Data: m.Data(), Header: nats.Header{}}
	letter.Header.Set(ReasonHeader, headerText(reason.Error()))
	letter.Header.Set(OriginStreamHeader, meta.Stream)
	letter.Header.Set(OriginSequenceHeader, sequence)
	letter.Header.Set(OriginSubjectHeader, PublishedSubject(m.Subject()))
	if id := m.Headers().Get(nats.MsgIdHdr); id != "" {
		letter.Header.Set(OriginIDHeader, id)
	}
	id := strings.Join([]string{"deadletter", part, meta.Stream, sequence}, ".")
	if _, err := js.PublishMsg(ctx, letter, jetstream.WithMsgID(id)); err != nil {
		return fmt.Errorf("keep dead letter of %s %s: %w", meta.Stream, sequence, err)
	}
	return nil
}

// headerText makes a reason fit for a header: one line, bounded, valid.
func headerText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return s
}
