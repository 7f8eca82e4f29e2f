// Command wasm-run runs a WebAssembly module with WASI preview 1:
//
//	wasm-run MODULE [ARGUMENT…]
//	wasm-run --spin MANIFEST
//
// With --spin it serves the application of a Spin manifest (version 2, executor wagi) at SPIN_HTTP_LISTEN_ADDR, by
// default 0.0.0.0:80. As with Spin, variables of the container do not reach the application.
//
// The module gets its path and the arguments, the whole environment, standard input, output and error, the clocks,
// random bytes, and the root folder as the read-only file descriptor 3. With WASI_TCP_LISTEN=ADDRESS:PORT in the
// environment it also gets a listening TCP socket, the file descriptor after it.
//
// The exit status is the module's own. Otherwise: 126 the file cannot be run, 127 there is no such file, 134 the module
// trapped, and 128 plus the signal's number when a signal ended it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// spinFlag selects Spin manifests.
const spinFlag = "--spin"

const (
	statusUsage      = 2
	statusCannotRun  = 126
	statusNoSuchFile = 127
	statusTrapped    = 134
	statusSignal     = 128
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: wasm-run MODULE [ARGUMENT...]")
		os.Exit(statusUsage)
	}

	endOnSignal()

	if os.Args[1] == spinFlag {
		if len(os.Args) != 3 {
			fmt.Fprintln(os.Stderr, "usage: wasm-run --spin MANIFEST")
			os.Exit(statusUsage)
		}

		err := serveSpin(context.Background(), os.Args[2], os.Getenv(spinAddress))
		fmt.Fprintf(os.Stderr, "wasm-run: %v\n", err)
		os.Exit(statusOf(err))
	}

	status, err := run(context.Background(), program{
		args: os.Args[1:], environment: os.Environ(), root: "/", listen: os.Getenv(listenVariable),
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "wasm-run: %v\n", err)
	}

	os.Exit(status)
}

// endOnSignal ends the program, and the module with it, wherever the module is: in a blocking call or in a loop. As the
// first process of a container it would not be ended by the kernel's default action.
func endOnSignal() {
	// A module's code is never preempted. With one thread for all of Go, a loop in it would keep the signal waiting.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)

	go func() {
		received := <-signals

		number, _ := received.(syscall.Signal)
		os.Exit(statusSignal + int(number))
	}()
}

// failure is an error with the exit status that stands for it.
type failure struct {
	status int
	error
}

func (f failure) Unwrap() error { return f.error }

func cannotRun(format string, values ...any) error {
	return failure{status: statusCannotRun, error: fmt.Errorf(format, values...)}
}

// statusOf is the exit status for an error of run.
func statusOf(err error) int {
	var known failure
	if errors.As(err, &known) {
		return known.status
	}

	return statusCannotRun
}
