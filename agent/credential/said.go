package credential

import (
	"encoding/json"
	"strings"
)

// said is the text of an error's answer, as the API and GitHub give it, fit for a log.
func said(data []byte) string {
	var answer struct {
		Message string `json:"message"`
	}
	text := string(data)
	if json.Unmarshal(data, &answer) == nil && answer.Message != "" {
		text = answer.Message
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return strings.TrimSpace(text)
}
