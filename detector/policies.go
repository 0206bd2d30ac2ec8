package detector

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-ci/sallyport/policies"
)

// embeddedFS holds the policies that are compiled in.
var embeddedFS fs.FS = policies.FS

// Policies holds the policies in force: the embedded ones, those of a bundle, and those of
// a folder beside them. It is safe for concurrent use; a reload swaps all at once.
type Policies struct {
	folder string
	set    atomic.Pointer[policySet]

	mu       sync.Mutex // one reload at a time
	embedded *layer
	bundle   *layer // empty without one
	print    string // what the folder's files were at the last reload
}

// LoadPolicies compiles the embedded policies and, if folder is not empty, those
// below it; a policy of the folder replaces the embedded one of the same id. A
// folder that does not exist is an empty one. Problems name the files that could
// not be used, each with its line; the rest is in force. The error is about the
// embedded policies only.
func LoadPolicies(ctx context.Context, folder string) (p *Policies, problems []error, err error) {
	p = &Policies{folder: folder, embedded: readLayer(embeddedFS), bundle: newLayer()}
	set, errs := compilePolicies(ctx, nil, p.embedded)
	if len(errs) > 0 {
		return nil, nil, fmt.Errorf("embedded policies: %w", errs[0])
	}
	p.set.Store(set)
	return p, p.Reload(ctx), nil
}

// Reload reads the folder again. What cannot be used any more stays as it was; the
// problems say what and why.
func (p *Policies) Reload(ctx context.Context) []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.compile(ctx)
}

// compile puts the layers in force. The lock is held.
func (p *Policies) compile(ctx context.Context) []error {
	layers := []*layer{p.embedded, p.bundle}
	if p.folder != "" {
		p.print = fingerprint(p.folder)
		if _, err := os.Stat(p.folder); err == nil {
			layers = append(layers, readLayer(os.DirFS(p.folder)))
		} else if !os.IsNotExist(err) {
			return []error{fmt.Errorf("read policies: %w", err)}
		}
	}
	set, problems := compilePolicies(ctx, p.set.Load(), layers...)
	p.set.Store(set)
	return problems
}

// Watch reloads when a file of the folder changes, looking every interval, until
// ctx ends. After each reload it calls report with the problems, maybe none.
func (p *Policies) Watch(ctx context.Context, interval time.Duration, report func([]error)) {
	if p.folder == "" {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		same := fingerprint(p.folder) == p.print
		p.mu.Unlock()
		if !same {
			report(p.Reload(ctx))
		}
	}
}

// IDs returns the policies in force, ordered.
func (p *Policies) IDs() []string {
	set := p.set.Load()
	ids := make([]string, len(set.policies))
	for i, c := range set.policies {
		ids[i] = c.about.GetId()
	}
	return ids
}

// fingerprint is the names, sizes and times of a folder's files that matter, and of those
// that cannot be looked at that they cannot.
func fingerprint(folder string) string {
	var b strings.Builder
	root := os.DirFS(folder)
	_ = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintf(&b, "%s %v\n", name, err)
			return nil // the walk goes on
		}
		if d.IsDir() || fileKind(name) == fileOther {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			fmt.Fprintf(&b, "%s %v\n", name, err)
			return nil // the walk goes on
		}
		fmt.Fprintf(&b, "%s %d %d %s\n", name, info.Size(), info.ModTime().UnixNano(), info.Mode())
		return nil
	})
	return b.String()
}
