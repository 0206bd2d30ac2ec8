// Package kernels runs the kernel side's own tests in a virtual machine with another
// kernel than that of the machine at hand, without KVM, in minutes: Debian's 6.1, and Debian's
// 6.12 for arm64; by hand (tag newest) the newest that Debian has. What docs/kernels.md says of them is
// held to what comes out.
package kernels
