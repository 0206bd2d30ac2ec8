package identity

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keysFresh is how long keys are used without asking for them again: so long a key
	// lives on that its issuer has withdrawn.
	keysFresh = time.Hour
	// keysStale is how long they are used when the issuer cannot be asked.
	keysStale = 24 * time.Hour
	// keysPause is the least time between two questions: whoever sends tokens with
	// invented keys makes us ask no oftener.
	keysPause = 10 * time.Second
	// keysTimeout bounds a question.
	keysTimeout = 10 * time.Second
	// maxKeysBytes bounds an answer.
	maxKeysBytes = 1 << 20
	// minKeyBits is the least size of an RSA key.
	minKeyBits = 2048
)

// keySet is the keys of an issuer, asked for by OpenID Connect Discovery 1.0 and kept. It
// is safe for concurrent use.
type keySet struct {
	issuer string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex
	keys    map[string]*rsa.PublicKey // by kid
	fetched time.Time
	tried   time.Time
	err     error // of the last try
}

// key returns the key with an identity. The issuer is asked again for one that is not
// known: it may be new.
func (k *keySet) key(ctx context.Context, id string) (*rsa.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if key := k.keys[id]; key != nil && now.Sub(k.fetched) < keysFresh {
		return key, nil
	}
	if k.tried.IsZero() || now.Sub(k.tried) >= keysPause {
		k.tried = now
		// Not with the caller's end: the answer is for all callers.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout)
		keys, err := k.fetch(ctx)
		cancel()
		if k.err = err; err == nil {
			k.keys, k.fetched = keys, now
		}
	}
	if key := k.keys[id]; key != nil && now.Sub(k.fetched) < keysStale {
		return key, nil
	}
	if k.err != nil {
		return nil, fmt.Errorf("%w: keys of %s: %w", ErrUnavailable, k.issuer, k.err)
	}
	return nil, refuse(ReasonUnknownKey, "the issuer has no key %.100q", id)
}

func (k *keySet) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &discovery); err != nil {
		return nil, err
	}
	if discovery.Issuer != k.issuer {
		return nil, fmt.Errorf("its configuration is of issuer %.200q", discovery.Issuer)
	}
	if err := confidential(discovery.Keys); err != nil {
		return nil, fmt.Errorf("jwks_uri: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, discovery.Keys, &set); err != nil {
		return nil, err
	}
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil {
			continue // of a kind that we do not know, as RFC 7517, section 5 has it
		}
		public, ok := key.Key.(*rsa.PublicKey)
		if !ok || key.KeyID == "" || key.Use != "" && key.Use != "sig" || key.Algorithm != "" && key.Algorithm != string(jose.RS256) || public.N.BitLen() < minKeyBits {
			continue
		}
		keys[key.KeyID] = public
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no RSA key for RS256 among them")
	}
	return keys, nil
}

func (k *keySet) get(ctx context.Context, address string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("get %s: %w", address, err)
	}
	answer, err := k.client.Do(request)
	if err != nil {
		return err // says what and where
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", address, answer.Status)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxKeysBytes+1))
	if err != nil {
		return fmt.Errorf("get %s: %w", address, err)
	}
	if len(data) > maxKeysBytes {
		return fmt.Errorf("get %s: the answer is longer than %d bytes", address, maxKeysBytes)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("get %s: %w", address, err)
	}
	return nil
}

// confidential returns an error unless an address is by TLS, or of this machine.
func confidential(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%.200q is not an address", address)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%.200q is neither https nor of this machine", address)
}
