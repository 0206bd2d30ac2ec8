package organisation

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
)

// maxFile bounds a file in bytes: a larger one is no workflow that anybody wrote.
const maxFile = 1 << 20

// Files are those of a commit, by path.
type Files map[string]github.Entry

// ReadCommit reads a commit and what files it has.
func ReadCommit(ctx context.Context, client *github.Client, repository, sha string) (github.Commit, Files, error) {
	commit, err := client.Commit(ctx, repository, sha)
	if err != nil {
		return commit, nil, err
	}
	entries, err := client.Tree(ctx, repository, commit.Tree)
	out := make(Files, len(entries))
	for _, e := range entries {
		out[e.Path] = e
	}
	return commit, out, err
}

// Sources reads the files of a commit that are of a kind that is wanted, ordered by path. What
// is somebody else's, kept beside one's own, is left out, and so is what is too large.
func Sources(ctx context.Context, client *github.Client, repository string, files Files, wanted func(harden.Kind) bool) ([]harden.Source, error) {
	var names []string
	for name, e := range files {
		if e.Mode != "100644" && e.Mode != "100755" || e.Size > maxFile || vendored(name) {
			continue
		}
		if kind := harden.KindOf(name); kind != harden.KindOther && wanted(kind) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := make([]harden.Source, 0, len(names)+1)
	for _, name := range names {
		e := files[name]
		text, err := client.Blob(ctx, repository, e.SHA)
		if err != nil {
			return nil, err
		}
		mode := fs.FileMode(0o644)
		if e.Mode == "100755" {
			mode = 0o755
		}
		out = append(out, harden.Source{Name: name, Text: append([]byte{}, text...), Mode: mode})
	}
	return out, nil
}

// vendored says whether a file is somebody else's, kept beside one's own.
func vendored(name string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(folder string) bool { return folder == "node_modules" || folder == "vendor" })
}
