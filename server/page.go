package server

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-ci/sallyport/store"
)

const (
	defaultPageSize = 50
	maxPageSize     = 1000
	// maxPageToken bounds what a client can make us decode.
	maxPageToken = 8 << 10
)

// pageSize checks the page_size of a request.
func pageSize(n int32) (int, error) {
	switch {
	case n == 0:
		return defaultPageSize, nil
	case n < 0 || n > maxPageSize:
		return 0, status.Errorf(codes.InvalidArgument, "page_size is %d: it must be 1 to %d, or 0 for %d", n, maxPageSize, defaultPageSize)
	}
	return int(n), nil
}

// pageToken is the place of a page in a list. It is opaque to clients.
type pageToken struct {
	// List is a digest of the question, so that a token is not used with another.
	List    string   `json:"l"`
	Time    int64    `json:"t,omitempty"`
	Keys    []string `json:"k,omitempty"`
	Numbers []uint64 `json:"n,omitempty"`
}

// listOf names a question by its method and filters.
func listOf(method string, filters ...string) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q%q", method, filters))
	return base64.RawURLEncoding.EncodeToString(h[:9])
}

func encodePage(list string, c *store.Cursor) string {
	if c == nil {
		return ""
	}
	text, err := json.Marshal(pageToken{List: list, Time: c.Time, Keys: c.Keys, Numbers: c.Numbers})
	if err != nil { // strings and numbers
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodePage(list, token string) (c store.Cursor, err error) {
	if token == "" {
		return c, nil
	}
	var p pageToken
	if len(token) <= maxPageToken {
		text, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil && json.Unmarshal(text, &p) == nil && p.List == list {
			return store.Cursor{Time: p.Time, Keys: p.Keys, Numbers: p.Numbers}, nil
		}
	}
	return c, status.Error(codes.InvalidArgument,
		"page_token is not one that this list gave: use next_page_token of an earlier answer with the same filters")
}
