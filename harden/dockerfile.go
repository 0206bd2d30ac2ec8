package harden

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
)

var (
	fromLine = regexp.MustCompile(`^(?i)(\s*FROM\s+(?:--[a-z]+=\S+\s+)*)(\S+)(?:\s+(?i:AS)\s+(\S+))?\s*(#.*)?$`)
	hereDoc  = regexp.MustCompile(`<<-?\s*["']?([A-Za-z_][A-Za-z0-9_]*)["']?`)
)

// dockerfile pins the images of a Dockerfile's FROM lines.
func (h *hardener) dockerfile(ctx context.Context, text []byte) (fixes []Fix, findings []Finding) {
	stages := make(map[string]bool)
	end, continued := "", false
	at := 0
	for n, raw := range bytes.SplitAfter(text, []byte("\n")) {
		begin := at
		at += len(raw)
		line := strings.TrimRight(string(raw), "\r\n")
		trimmed := strings.TrimSpace(line)
		if end != "" { // within a here-document
			if trimmed == end {
				end = ""
			}
			continue
		}
		if strings.HasPrefix(trimmed, "#") || trimmed == "" {
			continue
		}
		instruction := !continued
		continued = strings.HasSuffix(trimmed, `\`) || strings.HasSuffix(trimmed, "`")
		if word := strings.ToUpper(strings.Fields(trimmed)[0]); instruction && (word == "RUN" || word == "COPY" || word == "ADD") {
			if m := hereDoc.FindStringSubmatch(line); m != nil {
				end = m[1]
				continue
			}
		}
		m := fromLine.FindStringSubmatchIndex(line)
		if !instruction || m == nil {
			continue
		}
		image := line[m[4]:m[5]]
		stage := ""
		if m[6] >= 0 {
			stage = strings.ToLower(line[m[6]:m[7]])
		}
		place := Position{n + 1, m[4] + 1}
		if !stages[strings.ToLower(image)] && image != "scratch" && !strings.Contains(image, "$") && !strings.Contains(image, "@sha256:") && !h.exempt(image) && imageForm.MatchString(image) {
			digest, moved, err := h.resolver.image(ctx, image)
			if err != nil {
				findings = append(findings, Finding{"unpinned-image", SeverityWarning, place, fmt.Sprintf("image %s is not pinned to a digest: %v", image, err)})
			} else {
				if moved != nil {
					findings = append(findings, Finding{"moved", SeverityNote, place, fmt.Sprintf("image %s was %s since %s and is %s now", image, moved.Digest, moved.Seen, digest)})
				}
				fixes = append(fixes, Fix{
					Rule: "pin", At: place, Reason: fmt.Sprintf("image %s is a tag, which its owner can move; pinned to the digest that it stands for", image),
					edits: []Edit{{begin + m[5], begin + m[5], nil, []byte("@" + digest)}},
				})
			}
		}
		if stage != "" {
			stages[stage] = true
		}
	}
	return fixes, findings
}
