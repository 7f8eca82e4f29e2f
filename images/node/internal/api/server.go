// Package api serves the node's API: the Talos machine service, resources (COSI), storage and time on :50000, and
// trustd, which signs the workers' certificates, on :50001.
package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	cosiserver "github.com/cosi-project/runtime/pkg/state/protobuf/server"
	clusterapi "github.com/siderolabs/talos/pkg/machinery/api/cluster"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	storageapi "github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"lab/images/node/internal/resources"
)

// Port is apid's port.
const Port = 50000

// TLS is the server's certificate and, unless clients need none, the authorities of their certificates.
type TLS struct {
	mu        sync.Mutex
	cert      tls.Certificate
	ClientCAs *x509.CertPool
}

// NewTLS makes the TLS settings from PEM.
func NewTLS(cert, key, clientCAs []byte) (*TLS, error) {
	t := &TLS{}
	if err := t.Replace(cert, key); err != nil {
		return nil, err
	}

	if clientCAs != nil {
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(clientCAs) {
			return nil, fmt.Errorf("machine.ca and machine.acceptedCAs hold no certificate to verify clients with")
		}
	}

	return t, nil
}

// Replace changes the certificate for new connections.
func (t *TLS) Replace(cert, key []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("API certificate: %w", err)
	}

	t.mu.Lock()
	t.cert = pair
	t.mu.Unlock()

	return nil
}

func (t *TLS) config() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			t.mu.Lock()
			defer t.mu.Unlock()

			cert := t.cert

			return &cert, nil
		},
		CurvePreferences: curves,
	}

	if t.ClientCAs != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, t.ClientCAs
	}

	return c
}

// ClientTLS are the settings of a client that dials other nodes with a certificate.
func ClientTLS(cert, key, authorities []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("machine.ca and machine.acceptedCAs hold no certificate to verify nodes with")
	}

	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS13, CurvePreferences: curves,
	}, nil
}

// curves leave out the post-quantum hybrid: under emulation it triples the cost of a handshake.
var curves = []tls.CurveID{tls.X25519, tls.CurveP256}

// Serve serves the node's API until the context ends.
func Serve(ctx context.Context, m *Machine, access Access, settings *TLS) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(settings.config())),
		grpc.ChainUnaryInterceptor(access.unary),
		grpc.ChainStreamInterceptor(access.stream),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.SharedWriteBuffer(true),
	)

	isAdmin := IsAdmin
	if access.Maintenance {
		isAdmin = func(context.Context) bool { return false }
	}

	clusterapi.RegisterClusterServiceServer(server, &clusterHealth{machine: m, access: access, kubernetes: sync.OnceValue(m.Node.Kubernetes)})
	machineapi.RegisterMachineServiceServer(server, m)
	machineapi.RegisterImageServiceServer(server, images{})
	storageapi.RegisterStorageServiceServer(server, storage{})
	timeapi.RegisterTimeServiceServer(server, clock{})
	cosi.RegisterStateServer(server, newStateServer(m.Store, isAdmin))

	return serve(ctx, server, Port)
}

func newStateServer(store *resources.Store, isAdmin func(context.Context) bool) cosi.StateServer {
	return cosiserver.NewState(state.WrapCore(state.Filter(store.State, store.Access(isAdmin))))
}

func serve(ctx context.Context, server *grpc.Server, port int) error {
	var config net.ListenConfig

	listener, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("listen on port %d: %w", port, err)
	}

	stopped := make(chan struct{})

	go func() {
		defer close(stopped)

		<-ctx.Done()

		// Calls that are being answered finish; watches do not, so the wait is short.
		done := make(chan struct{})

		go func() { server.GracefulStop(); close(done) }()

		select {
		case <-done:
		case <-time.After(500 * time.Millisecond):
			server.Stop()
		}
	}()

	err = server.Serve(listener)

	if ctx.Err() != nil {
		<-stopped

		return nil
	}

	return err
}
