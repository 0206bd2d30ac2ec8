package harden

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/harden/routes"
)

// Observation is a request that jobs were seen to make, or, without a method, that they were seen.
type Observation struct {
	// Repository is OWNER/NAME, File the workflow's path in it, Job its key.
	Repository string `json:"repository"`
	File       string `json:"file"`
	Job        string `json:"job"`
	// Method, Host and Path are those of the request; what differs from run to run may be * in the
	// path.
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	// Runs is in how many runs it was seen, Of how many were seen at all.
	Runs count `json:"runs"`
	Of   count `json:"of"`
}

// count is a number that some programs write as a text.
type count int

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(text []byte) error {
	n, err := strconv.Atoi(strings.Trim(string(text), `"`))
	if err != nil || n < 0 {
		return fmt.Errorf("%s is no number of runs", text)
	}
	*c = count(n)
	return nil
}

// maxObservation bounds a line of observations, in bytes.
const maxObservation = 1 << 20

// ReadObservations reads JSON lines, as the query of docs/queries.md gives them in the format
// JSONEachRow. Other fields are passed over.
func ReadObservations(from io.Reader) (out []Observation, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxObservation)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		var o Observation
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if o.File == "" || o.Job == "" || o.Of < o.Runs || o.Method != "" && o.Runs == 0 {
			return nil, fmt.Errorf("line %d: it does not say of which file and job, or in how many of how many runs", n)
		}
		out = append(out, o)
	}
	return out, lines.Err()
}

// enoughRuns is after how many runs that were seen it is taken for known what a job asks for.
const enoughRuns = 10

// checkObserved says whether it is known whose files these are, if that makes a difference.
func (h *hardener) checkObserved() error {
	for _, o := range h.Observed {
		if h.Repository == "" && o.Repository != h.Observed[0].Repository {
			return errors.New("harden: there are observations of several repositories, and it is not known whose files these are")
		}
	}
	return nil
}

// observed adds what a job was seen to ask of its own repository. It takes nothing away.
func (h *hardener) observed(g *grant, file, job string) {
	of, graphs := count(0), false
	for _, o := range h.Observed {
		if o.Job != job || h.Repository != "" && !strings.EqualFold(o.Repository, h.Repository) || !isFile(file, o.File) {
			continue
		}
		of = max(of, o.Of)
		if o.Method == "" {
			continue
		}
		graphs = graphs || strings.HasSuffix(o.Path, "/graphql")
		scope, access, form := h.seen(o)
		if scope != "" {
			g.need(scope, access, fmt.Sprintf("what was seen: %s in %d of %d runs", form, o.Runs, o.Of))
		}
	}
	if len(g.unknown) > 0 && of >= enoughRuns && !graphs {
		g.settled, g.unknown = fmt.Sprintf("what %s needs is taken from %d runs that were seen", strings.Join(g.unknown, ", "), of), nil
	}
}

func isFile(name, observed string) bool {
	name = filepath.ToSlash(name)
	return name == observed || strings.HasSuffix(name, "/"+observed)
}

// seen is what a request needs of the job's token; an empty scope if it needs none or is about
// something else than its repository.
func (h *hardener) seen(o Observation) (catalogue.Scope, catalogue.Access, string) {
	p := "/" + strings.TrimLeft(o.Path, "/")
	if o.Host == "github.com" {
		for service, access := range map[string]catalogue.Access{"git-receive-pack": catalogue.Write, "git-upload-pack": catalogue.Read} {
			if o.Method == http.MethodPost && (strings.EqualFold(p, "/"+o.Repository+"/"+service) || strings.EqualFold(p, "/"+o.Repository+".git/"+service)) {
				return "contents", access, service
			}
		}
		return "", 0, ""
	}
	own := "/repos/" + strings.ToLower(o.Repository)
	if lower := strings.ToLower(p); lower != own && !strings.HasPrefix(lower, own+"/") && !strings.HasPrefix(lower, own+"?") {
		return "", 0, ""
	}
	c := routes.Call{Method: o.Method, Path: p}
	need, known := h.routes.For(c)
	if !known || need.Never || need.Scope == "" {
		return "", 0, ""
	}
	return need.Scope, need.Access, strings.ToUpper(o.Method) + " " + h.routes.Form(c)
}
