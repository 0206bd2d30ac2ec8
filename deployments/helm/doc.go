// Package helm holds the charts; its test renders and checks them.
package helm
