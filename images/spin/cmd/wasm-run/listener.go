package main

import (
	"context"
	"net"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sock"
)

// listenVariable names the address that the pre-opened socket listens on. WASI preview 1 has no call that opens one.
const listenVariable = "WASI_TCP_LISTEN"

// withListener gives modules that are run with the returned context a listening socket.
func withListener(ctx context.Context, address string) (context.Context, error) {
	if address == "" {
		return ctx, nil
	}

	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, cannotRun("%s=%q is not an ADDRESS:PORT: %w", listenVariable, address, err)
	}

	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, cannotRun("%s=%q: the port must be a number up to 65535", listenVariable, address)
	}

	if strings.Contains(host, ":") {
		host = "[" + host + "]" // wazero joins host and port without brackets
	}

	return sock.WithConfig(ctx, sock.NewConfig().WithTCPListener(host, int(number))), nil
}
