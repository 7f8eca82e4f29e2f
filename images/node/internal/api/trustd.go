package api

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/siderolabs/crypto/x509"
	securityapi "github.com/siderolabs/talos/pkg/machinery/api/security"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/console"
)

// TrustdPort is trustd's port.
const TrustdPort = 50001

// certificateLife of a worker's API certificate: see package pki.
const (
	certificateLife = 365 * 24 * time.Hour
	certificateSlip = 24 * time.Hour
)

// ServeTrustd signs the workers' API certificates until the context ends. Callers prove that they belong to the
// cluster with the machine token.
func ServeTrustd(ctx context.Context, security config.Security, settings *TLS) error {
	tlsConfig := settings.config()
	tlsConfig.ClientAuth, tlsConfig.ClientCAs = tls.NoClientCert, nil

	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tlsConfig)),
		grpc.UnaryInterceptor(requireToken(security.Token())),
		grpc.SharedWriteBuffer(true),
	)
	securityapi.RegisterSecurityServiceServer(server, &trustd{security: security})

	return serve(ctx, server, TrustdPort)
}

func requireToken(token string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)

		given := md.Get("token")
		if len(given) != 1 || subtle.ConstantTimeCompare([]byte(given[0]), []byte(token)) != 1 {
			if p, ok := peer.FromContext(ctx); ok {
				console.Printf("trustd: %s presented a wrong machine token", p.Addr)
			}

			return nil, status.Error(codes.Unauthenticated, "invalid token")
		}

		return next(ctx, request)
	}
}

type trustd struct {
	securityapi.UnimplementedSecurityServiceServer

	security config.Security
}

// Certificate signs a request for a server certificate; what it asks for beyond that is taken away.
func (t *trustd) Certificate(_ context.Context, request *securityapi.CertificateRequest) (*securityapi.CertificateResponse, error) {
	block, _ := pem.Decode(request.GetCsr())
	if block == nil {
		return nil, status.Error(codes.InvalidArgument, "failed to decode CSR")
	}

	csr, err := stdx509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "failed to parse CSR: %s", err)
	}

	console.Printf("trustd: certificate request of %s for %v %v", csr.Subject.CommonName, csr.IPAddresses, csr.DNSNames)

	ca := t.security.IssuingCA()

	signed, err := x509.NewCertificateFromCSRBytes(ca.Crt, ca.Key, request.GetCsr(),
		x509.KeyUsage(stdx509.KeyUsageDigitalSignature),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageServerAuth}),
		x509.NotBefore(time.Now().Add(-certificateSlip)),
		x509.NotAfter(time.Now().Add(certificateLife)),
		// An organization would be a role: no certificate signed here may act as a client.
		x509.OverrideSubject(func(subject *pkix.Name) { subject.Organization = nil }),
	)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "failed to sign CSR: %s", err)
	}

	return &securityapi.CertificateResponse{Ca: AcceptedCAs(t.security), Crt: signed.X509CertificatePEM}, nil
}

// AcceptedCAs is the bundle of authorities of the machine API.
func AcceptedCAs(security config.Security) []byte {
	var all [][]byte

	if ca := security.IssuingCA(); ca != nil {
		all = append(all, ca.Crt)
	}

	for _, ca := range security.AcceptedCAs() {
		all = append(all, ca.Crt)
	}

	return bytes.Join(all, []byte("\n"))
}

// RequestCertificate asks the trustd of a control plane for a worker's API certificate. It tries until it gets one
// or the context ends; onError is told of each failure.
func RequestCertificate(ctx context.Context, security config.Security, host string, csr []byte, onError func(error)) ([]byte, error) {
	pool := stdx509.NewCertPool()
	if !pool.AppendCertsFromPEM(AcceptedCAs(security)) {
		return nil, fmt.Errorf("machine.ca holds no certificate")
	}

	target := "passthrough:///" + net.JoinHostPort(host, strconv.Itoa(TrustdPort))

	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS13, CurvePreferences: curves,
		})),
		grpc.WithSharedWriteBuffer(true),
	)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	client := securityapi.NewSecurityServiceClient(conn)
	ctx = metadata.AppendToOutgoingContext(ctx, "token", security.Token())

	for {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		response, err := client.Certificate(call, &securityapi.CertificateRequest{Csr: csr})
		cancel()

		if err == nil {
			return response.GetCrt(), nil
		}

		onError(err)

		conn.ResetConnectBackoff()

		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}
