// Package kernels runs the kernel side's own tests in a virtual machine with another
// kernel than that of the machine at hand: Debian's 6.1, without KVM, in a minute. What
// docs/kernels.md says of that kernel is held to what comes out.
package kernels
