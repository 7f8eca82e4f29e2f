// Command spin-runtime is the program of the containerd runtime handler spin: runc, which it executes with the very
// arguments it got, except that a container whose process is a WebAssembly module is first given a runner for it. Pods'
// pause containers and ordinary programs in a pod of this handler run as they would with runc itself.
package main

import (
	"fmt"
	"os"
	"syscall"

	"lab/images/spin/internal/bundle"
	"lab/images/spin/internal/commandline"
)

const (
	// runc does everything that an OCI runtime does.
	runc = "/usr/sbin/runc"
	// runner runs a module with WASI; it is static, so that it runs in any image.
	runner = "/usr/local/bin/wasm-run"
)

func main() {
	invocation := commandline.Parse(os.Args[1:])

	if err := prepare(invocation); err != nil {
		report(invocation, err)
		os.Exit(1)
	}

	if err := syscall.Exec(runc, append([]string{runc}, os.Args[1:]...), os.Environ()); err != nil {
		report(invocation, fmt.Errorf("executing %s: %w", runc, err))
		os.Exit(1)
	}
}

// prepare does what has to be done before runc reads the bundle.
func prepare(invocation commandline.Invocation) error {
	if invocation.Command != "create" && invocation.Command != "run" {
		return nil
	}

	_, err := bundle.Prepare(invocation.Bundle, runner)

	return err
}
