// Package doctor answers one question: is this machine fit for Sallyport, and are the parts
// that run well? Each check says what it found and, if something is wrong, what to do. None
// changes anything.
package doctor
