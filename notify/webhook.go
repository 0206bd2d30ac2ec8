package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/report/terminal"
)

// WebhookOptions says how findings reach a receiver of one's own.
type WebhookOptions struct {
	// URL is where messages are posted: https, or http to loopback. It may hold a secret:
	// it is never logged, and no error of this package holds it.
	URL string
	// Secrets sign the messages, each "whsec_" and base64 of 24 to 64 bytes, or those bytes
	// as text. Several sign each message while one takes another's place. One is needed.
	Secrets []string
	// GitHubURL as in SlackOptions.
	GitHubURL string
	// Client and Now as in SlackOptions.
	Client *http.Client
	Now    func() time.Time
}

// Webhook posts findings as OCSF Detection Findings, signed by the Standard Webhooks
// scheme. The header webhook-id is the same for each attempt at a message, so that who
// keeps it takes each message once.
type Webhook struct {
	url    string
	keys   [][]byte
	server string
	client *http.Client
	now    func() time.Time
}

// WebhookWindow is how long repeats are gathered.
const WebhookWindow = 5 * time.Minute

const (
	secretPrefix = "whsec_"
	// Lengths of a secret in bytes that the scheme asks for.
	minSecret, maxSecret = 24, 64
	// webhookTolerance is how far a receiver's clock may be from the sender's.
	webhookTolerance = 5 * time.Minute
)

// NewWebhook returns a Webhook. Errors do not hold address or secrets.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("webhook: its address is no https address") // the error of url.Parse holds it
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("webhook: findings say how builds can be attacked, and have to go by https, not http")
	}
	w := &Webhook{url: o.URL, client: o.Client, now: o.Now}
	for i, s := range o.Secrets {
		key, err := webhookKey(s)
		if err != nil {
			return nil, fmt.Errorf("webhook: secret %d: %w", i+1, err)
		}
		w.keys = append(w.keys, key)
	}
	if len(w.keys) == 0 {
		return nil, errors.New("webhook: it needs a secret: `openssl rand -base64 32`, behind whsec_")
	}
	if w.server, err = checkServerURL(o.GitHubURL); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if w.client == nil {
		w.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if w.now == nil {
		w.now = time.Now
	}
	return w, nil
}

func webhookKey(secret string) ([]byte, error) {
	key := []byte(secret)
	if encoded, ok := strings.CutPrefix(secret, secretPrefix); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, errors.New("behind whsec_ there is no base64")
		}
	}
	if len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("it has %d bytes, and must have %d to %d", len(key), minSecret, maxSecret)
	}
	return key, nil
}

// String hides the address from whoever prints a Webhook.
func (w *Webhook) String() string { return "webhook" }

// GoString hides it as well.
func (w *Webhook) GoString() string { return w.String() }

// Deliver implements Target. Any 2xx has arrived; 410 means that the receiver wants no
// more; 408, 425, 429 and 5xx may be tried again, and so may an attempt that broke, since
// the receiver knows the message by its webhook-id; anything else was refused.
func (w *Webhook) Deliver(ctx context.Context, a Alert) error {
	for _, item := range a.Items {
		body, err := json.Marshal(ocsfFinding(item, w.server))
		if err != nil {
			return &RejectedError{Err: fmt.Errorf("encode finding %s: %w", item.Finding.GetId(), err)}
		}
		if err := w.post(ctx, webhookID(item), body); err != nil {
			return err
		}
	}
	return nil
}

// webhookID is the same for each attempt at a message, and another for each message.
func webhookID(item Item) string {
	if !item.FollowUp && len(item.More) == 0 {
		return "finding_" + item.Finding.GetId()
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %t", item.Finding.GetId(), item.FollowUp) // a hash never fails
	for _, m := range item.More {
		_, _ = fmt.Fprintf(h, " %q", m.ID)
	}
	return "repeats_" + hex.EncodeToString(h.Sum(nil)[:16])
}

func (w *Webhook) post(ctx context.Context, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return &RejectedError{Err: w.hide("make webhook request", err)}
	}
	at := w.now().Unix()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Sallyport")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(at, 10))
	signatures := make([]string, len(w.keys))
	for i, key := range w.keys {
		signatures[i] = signature(key, id, at, body)
	}
	req.Header.Set("Webhook-Signature", strings.Join(signatures, " "))
	resp, err := w.client.Do(req)
	if err != nil {
		return &RetryError{Err: w.hide("post to webhook", err)}
	}
	defer resp.Body.Close()
	reply, _ := io.ReadAll(io.LimitReader(resp.Body, maxReply)) // the status counts
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	err = fmt.Errorf("webhook answered %d: %s", resp.StatusCode, terminal.Escape(strings.ReplaceAll(strings.TrimSpace(string(reply)), w.url, "[webhook]")))
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusTooEarly:
		return &RetryError{After: retryAfter(resp.Header.Get("Retry-After"), w.now()), Err: err}
	}
	if resp.StatusCode >= 500 {
		return &RetryError{After: retryAfter(resp.Header.Get("Retry-After"), w.now()), Err: err}
	}
	return &RejectedError{Err: err}
}

// signature signs "ID.TIMESTAMP.BODY".
func signature(key []byte, id string, at int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%d.", id, at) // a hash never fails
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// ErrWebhook says that a message was not sent by who holds the secret, or not now.
var ErrWebhook = errors.New("the webhook message is not genuine")

// VerifyWebhook is what a receiver does with a message: it checks that somebody with the
// secret signed header and body, no more than five minutes from now. Who then drops
// messages whose webhook-id it has seen takes each once.
func VerifyWebhook(secret string, header http.Header, body []byte, now time.Time) (id string, err error) {
	key, err := webhookKey(secret)
	if err != nil {
		return "", fmt.Errorf("verify webhook: %w", err)
	}
	id = header.Get("Webhook-Id")
	at, err := strconv.ParseInt(header.Get("Webhook-Timestamp"), 10, 64)
	if id == "" || err != nil {
		return "", fmt.Errorf("%w: webhook-id or webhook-timestamp is missing", ErrWebhook)
	}
	if off := now.Sub(time.Unix(at, 0)); off > webhookTolerance || off < -webhookTolerance {
		return "", fmt.Errorf("%w: it was signed %s from now", ErrWebhook, off.Round(time.Second))
	}
	want := []byte(signature(key, id, at, body))
	for s := range strings.FieldsSeq(header.Get("Webhook-Signature")) {
		if subtle.ConstantTimeCompare([]byte(s), want) == 1 {
			return id, nil
		}
	}
	return "", fmt.Errorf("%w: no signature fits", ErrWebhook)
}

// hide takes the address out of an error.
func (w *Webhook) hide(doing string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if strings.Contains(err.Error(), w.url) {
		err = errors.New(strings.ReplaceAll(err.Error(), w.url, "[webhook]"))
	}
	return fmt.Errorf("%s: %w", doing, err)
}
