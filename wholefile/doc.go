// Package wholefile answers how a file is replaced so that whoever reads it, at any time and after
// any end of the program, finds what was there before or all of what came.
//
// It leaves at most a file .new-* behind, in the same folder, if the program ends in the middle.
package wholefile
