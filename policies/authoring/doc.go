// Package authoring answers one question: is this policy written well, and what would it
// find? It is behind `sallyport policy`: it checks, formats and tests policies, makes new
// ones, and tries them on recorded runs before they are in force. It uses the same compiler,
// the same lists and the same judge as the detector.
package authoring
