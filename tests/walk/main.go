// Command walk makes the calls of a talosctl user against a cluster, with the client library of talosctl and the
// talosconfig that the lab writes. It prints a JSON object for each call: its name as in docs/reference-node.md, and the
// error of a call that was refused or answered with nothing.
//
//	walk TALOSCONFIG WORKER-ADDRESS
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/client"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"google.golang.org/grpc"
)

// patience is the time for one call on a slow host.
const patience = 60 * time.Second

// walk is what all calls share.
type walk struct {
	*client.Client

	controlPlane, worker string
}

// call is a command of talosctl, and the calls of the API that it makes. An error is a refusal or an answer that says
// nothing.
type call struct {
	name string
	make func(context.Context, walk) error
}

// outcome is one line of the output.
type outcome struct {
	Call    string  `json:"call"`
	Error   string  `json:"error"`
	Seconds float64 `json:"seconds"`
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "walk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: walk TALOSCONFIG WORKER-ADDRESS")
	}

	config, err := clientconfig.Open(args[0])
	if err != nil {
		return err
	}

	current := config.Contexts[config.Context]
	if current == nil || len(current.Nodes) != 1 {
		return fmt.Errorf("the context %q of %s has to name one node", config.Context, args[0])
	}

	// On a busy host a first connection may fail; the calls wait for the next one, within their patience.
	c, err := client.New(ctx, client.WithConfig(config), client.WithDefaultGRPCDialOptions(),
		client.WithGRPCDialOptions(grpc.WithDefaultCallOptions(grpc.WaitForReady(true))))
	if err != nil {
		return err
	}
	defer c.Close()

	out := json.NewEncoder(os.Stdout)
	shared := walk{Client: c, controlPlane: current.Nodes[0], worker: args[1]}

	for _, call := range calls() {
		started := time.Now()
		limited, cancel := context.WithTimeout(ctx, patience)

		told := outcome{Call: call.name}
		if err := call.make(limited, shared); err != nil {
			told.Error = err.Error()
		}

		cancel()

		told.Seconds = time.Since(started).Round(time.Millisecond).Seconds()

		if err := out.Encode(told); err != nil {
			return err
		}
	}

	return nil
}
