// Package migrations answers one question: which statements make the tables? It
// holds them as SQL files for goose, numbered, run forward only. A file that has
// been released is never changed; a change is a new file. ClickHouse has no
// transactions over several statements, so each statement can be run again.
package migrations

import "embed"

// Files holds the migrations.
//
//go:embed *.sql
var Files embed.FS
