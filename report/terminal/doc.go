// Package terminal answers how words from outside reach a person's terminal: what
// is escaped, coloured, shortened and wrapped.
//
// What comes in are names and arguments that an attacker may have chosen. What
// goes out cannot move the cursor, change colours or the order of writing, or
// start a new line. The package writes nothing itself and keeps no state; all
// functions are safe for concurrent use.
package terminal
