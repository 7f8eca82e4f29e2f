package podnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"lab/images/node/internal/console"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/supervise"
)

// holdFor bounds how long a connection is held before the API server is ready; clients give up at ten seconds
// themselves (the TLS handshake time-out of client-go).
const holdFor = 30 * time.Second

// KubePrism is the node's local endpoint of the Kubernetes API, as in Talos: a TCP proxy to the control plane.
//
// One thing is more than Talos does: until the API server answers an authenticated /readyz for the first time,
// connections are held instead of refused. A kubelet that starts before its control plane is there would otherwise
// sit in an exponential back-off just when the API server comes up.
type KubePrism struct {
	Listen   string // 127.0.0.1:7445
	Upstream string // host:port
	Probe    *kube.Client
	// Ready opens when the API server is ready for the first time.
	Ready *supervise.Gate
	// Interval is the time between probes before that.
	Interval time.Duration
}

// Run serves until the context ends.
func (k *KubePrism) Run(ctx context.Context) error {
	var listen net.ListenConfig

	listener, err := listen.Listen(ctx, "tcp", k.Listen)
	if err != nil {
		return fmt.Errorf("listen for clients of the Kubernetes API: %w", err)
	}

	go func() {
		<-ctx.Done()
		listener.Close()
	}()

	go k.WatchReady(ctx)

	for {
		conn, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}

			return err
		}

		go k.forward(ctx, conn)
	}
}

// refusedFor is how long the API server may refuse the node's token before the gate opens nevertheless: then the token
// is wrong (or gone), and the kubelet should say so itself instead of running into time-outs.
const refusedFor = 20 * time.Second

// WatchReady probes until the API server is ready once.
func (k *KubePrism) WatchReady(ctx context.Context) {
	var (
		last    string
		refused time.Time
	)

	err := supervise.Poll(ctx, k.Interval, func() bool {
		probe, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()

		err := k.Probe.Ready(probe)
		if err == nil {
			return true
		}

		if ctx.Err() != nil || errors.Is(err, syscall.ECONNREFUSED) {
			return false // not listening yet: nothing to tell
		}

		if message := kube.ReadyProblem(err); message != last {
			last = message
			console.Printf("Kubernetes API at %s is not ready: %s", k.Upstream, message)
		}

		if !kube.IsStatus(err, http.StatusUnauthorized) {
			refused = time.Time{}

			return false
		}

		if refused.IsZero() {
			refused = time.Now()
		}

		if time.Since(refused) > refusedFor {
			console.Printf("Kubernetes API at %s refuses this node's bootstrap token since %s: is it the token of this cluster?", k.Upstream, refusedFor)

			return true
		}

		return false
	})
	if err == nil && !k.Ready.IsOpen() {
		console.Milestone("kubernetes-api-reachable")
		k.Ready.Open()
	}
}

func (k *KubePrism) forward(ctx context.Context, client net.Conn) {
	defer client.Close()

	if !k.Ready.IsOpen() {
		hold, cancel := context.WithTimeout(ctx, holdFor)
		defer cancel()

		if k.Ready.Wait(hold) != nil {
			return
		}
	}

	dialer := net.Dialer{Timeout: 5 * time.Second}

	server, err := dialer.DialContext(ctx, "tcp", k.Upstream)
	if err != nil {
		return
	}
	defer server.Close()

	var wg sync.WaitGroup

	// io.Copy between TCP connections is splice(2): the data does not pass through the agent.
	wg.Go(func() { copyAndClose(server, client) })
	wg.Go(func() { copyAndClose(client, server) })
	wg.Wait()
}

func copyAndClose(to, from net.Conn) {
	_, _ = io.Copy(to, from)

	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
