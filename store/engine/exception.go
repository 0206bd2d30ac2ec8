package engine

import (
	"net/http"
	"strconv"
	"strings"
)

// An exception is an error of the engine, in ClickHouse's own words and numbers.
type exception struct {
	code    int
	message string // "Code: 60. DB::Exception: …", as clients parse it
}

// Codes that this package raises or treats apart; the numbers are ClickHouse's.
const (
	codeSyntaxError          = 62
	codeBadArguments         = 36
	codeUnknownDatabase      = 81
	codeUnknownSetting       = 115
	codeTimeoutExceeded      = 159
	codeReadonly             = 164
	codeTooManySimultaneous  = 202
	codeAccessDenied         = 497
	codeAuthenticationFailed = 516
	codeUnknown              = 1002
)

// newException takes the code out of the engine's message, which starts with
// "Code: N." and may have words of the connection before it.
func newException(msg string) *exception {
	msg = strings.TrimSpace(msg)
	if i := strings.Index(msg, "Code: "); i >= 0 {
		digits := msg[i+len("Code: "):]
		if j := strings.IndexByte(digits, '.'); j > 0 {
			if code, err := strconv.Atoi(digits[:j]); err == nil && code > 0 {
				return &exception{code: code, message: msg[i:]}
			}
		}
	}
	return raise(codeUnknown, "UNKNOWN_EXCEPTION", msg)
}

// raise makes an exception of our own in the engine's form.
func raise(code int, name, msg string) *exception {
	return &exception{code: code, message: "Code: " + strconv.Itoa(code) + ". DB::Exception: " + msg + ". (" + name + ")"}
}

func (e *exception) Error() string { return e.message }

// status is the HTTP status ClickHouse gives to this code.
func (e *exception) status() int {
	switch e.code {
	case codeAuthenticationFailed, 192, 193, 194: // unknown user, wrong or required password
		return http.StatusForbidden
	case codeReadonly, codeAccessDenied, 291, 446:
		return http.StatusForbidden
	case 6, 25, 26, 27, 38, 41, 43, 53, 69, 72, 117, 123, 167, 168, 223, 321, 386, 456, 457, 675, 676,
		codeSyntaxError, codeBadArguments:
		return http.StatusBadRequest
	case 16, 46, 47, 50, 56, 60, 63, 73, 78, 336, 390, codeUnknownDatabase, codeUnknownSetting:
		return http.StatusNotFound
	case codeTimeoutExceeded:
		return http.StatusRequestTimeout
	case 48:
		return http.StatusNotImplemented
	case 201, 290, codeTooManySimultaneous: // quota, overload
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
