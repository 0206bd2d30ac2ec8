package githubfake

import "maps"

// handlers are those of all paths that the fake answers, by GitHub's own pattern.
func (s *Server) handlers() map[string]handler {
	all := make(map[string]handler)
	for _, of := range []map[string]handler{
		s.appHandlers(), s.gitHandlers(), s.repositoryHandlers(), s.issueHandlers(), s.checkHandlers(),
	} {
		maps.Copy(all, of)
	}
	return all
}
