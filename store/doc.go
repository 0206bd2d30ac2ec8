// Package store answers one question: what are the tables, and how are they
// asked? It opens the database, brings its tables up to date (store/migrations),
// takes rows column by column under a deduplication token, and answers the
// questions of the API. It never reads the stream and never decides anything
// about what it stores.
package store
