// Command pgha-leash is the parent of postgres. It stops the server when the
// deadline it was given passes. The agent starts it; see package leash.
package main

import (
	"os"
	"runtime"

	"github.com/pgha/pgha/internal/leash"
)

// The main goroutine keeps the main thread: the kernel signals postgres when
// the thread that started it ends, and only the main thread lives as long as
// the process.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(leash.Main(os.Args[1:], os.Stdout))
}
