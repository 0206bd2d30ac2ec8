// Package github speaks with GitHub: as an App or with a token, politely (rate limits, conditional
// requests, pauses between writes), in the terms of this program: repositories, trees, commits,
// branches that are moved only from where they were seen, pull requests, and what is known of a
// repository.
//
// What a caller acts on are ErrNotFound, ErrForbidden, ErrRefused, ErrTooLarge, ErrMoved and
// ErrProtected. A Client is safe for concurrent use. It logs nothing and keeps no secrets but those that it was given.
package github
