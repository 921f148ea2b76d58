// Package interop runs clusters that hold Patroni's and pgha's members at once,
// and moves one from the one to the other and back. Its tests need the build
// tag e2e, root, and Debian's patroni package ('scripts/deps.sh patroni').
package interop
