package slackfake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"unicode/utf16"
)

// Message is a message as an incoming webhook takes it.
type Message struct {
	// Text is the fallback.
	Text string `json:"text"`
	// Blocks is the message itself, if there are any.
	Blocks []Block `json:"blocks"`
	// UnfurlLinks and UnfurlMedia say whether Slack fetches what is linked; nil is
	// Slack's own choice.
	UnfurlLinks *bool `json:"unfurl_links"`
	UnfurlMedia *bool `json:"unfurl_media"`
}

// Block is a block of a message.
type Block struct {
	Type     string `json:"type"`
	BlockID  string `json:"block_id"`
	Text     *Text  `json:"text"`
	Fields   []Text `json:"fields"`
	Elements []Text `json:"elements"`
}

// Text is a text object.
type Text struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	Emoji    *bool  `json:"emoji"`
	Verbatim *bool  `json:"verbatim"`
}

// Refusal is what Slack would answer to a message that it does not take.
type Refusal struct { //nolint:errname // the name of what Slack does
	// Status is the HTTP status.
	Status int
	// Reason is the body, one word.
	Reason string
	// Detail is for the reader of a test; Slack does not say it.
	Detail string
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Reason, r.Detail) }

func refuse(reason, format string, args ...any) *Refusal {
	return &Refusal{Status: 400, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Published limits.
const (
	maxText     = 40_000
	maxBlocks   = 50
	maxBlockID  = 255
	maxHeader   = 150
	maxSection  = 3000
	maxFields   = 10
	maxField    = 2000
	maxElements = 10
)

// Parse checks a request's body and returns the message. The error is a *Refusal.
func Parse(contentType string, body []byte) (*Message, error) {
	if t, _, err := mime.ParseMediaType(contentType); err != nil || t != "application/json" {
		return nil, refuse("invalid_payload", "content type is %q", contentType)
	}
	// Fields that a block's type does not have are refused, below and here.
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var m Message
	if err := d.Decode(&m); err != nil {
		return nil, refuse("invalid_payload", "%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, refuse("invalid_payload", "something follows the object")
	}
	if m.Text == "" && len(m.Blocks) == 0 {
		return nil, refuse("no_text", "neither text nor blocks")
	}
	if n := units(m.Text); n > maxText {
		return nil, refuse("msg_too_long", "text of %d characters", n)
	}
	if len(m.Blocks) > maxBlocks {
		return nil, refuse("invalid_blocks", "%d blocks", len(m.Blocks))
	}
	ids := make(map[string]bool)
	for i, b := range m.Blocks {
		if err := b.check(); err != nil {
			return nil, refuse("invalid_blocks", "block %d (%s): %v", i, b.Type, err)
		}
		if b.BlockID != "" && ids[b.BlockID] {
			return nil, refuse("invalid_blocks", "block_id %q is there twice", b.BlockID)
		}
		ids[b.BlockID] = true
	}
	return &m, nil
}

func units(s string) int { return len(utf16.Encode([]rune(s))) }

func (b Block) check() error {
	if units(b.BlockID) > maxBlockID {
		return fmt.Errorf("block_id of %d characters", units(b.BlockID))
	}
	if b.Fields != nil && b.Type != "section" {
		return fmt.Errorf("has fields")
	}
	if b.Elements != nil && b.Type != "context" {
		return fmt.Errorf("has elements")
	}
	switch b.Type {
	case "divider":
		if b.Text != nil {
			return fmt.Errorf("has a text")
		}
		return nil
	case "header":
		if b.Text == nil || b.Text.Type != "plain_text" {
			return fmt.Errorf("needs a plain_text")
		}
		return b.Text.check(maxHeader)
	case "section":
		if b.Text == nil && len(b.Fields) == 0 {
			return fmt.Errorf("needs a text or fields")
		}
		if b.Text != nil {
			if err := b.Text.check(maxSection); err != nil {
				return err
			}
		}
		if len(b.Fields) > maxFields {
			return fmt.Errorf("%d fields", len(b.Fields))
		}
		for i, f := range b.Fields {
			if err := f.check(maxField); err != nil {
				return fmt.Errorf("field %d: %w", i, err)
			}
		}
		return nil
	case "context":
		if b.Text != nil {
			return fmt.Errorf("has a text")
		}
		if len(b.Elements) < 1 || len(b.Elements) > maxElements {
			return fmt.Errorf("%d elements", len(b.Elements))
		}
		for i, e := range b.Elements {
			if err := e.check(maxSection); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
		}
		return nil
	default:
		return fmt.Errorf("type is not known here")
	}
}

func (t Text) check(limit int) error {
	switch t.Type {
	case "mrkdwn":
		if t.Emoji != nil {
			return fmt.Errorf("mrkdwn has emoji")
		}
	case "plain_text":
		if t.Verbatim != nil {
			return fmt.Errorf("plain_text has verbatim")
		}
	default:
		return fmt.Errorf("text type %q", t.Type)
	}
	if n := units(t.Text); n < 1 || n > limit {
		return fmt.Errorf("text of %d characters, 1 to %d are allowed", n, limit)
	}
	return nil
}
