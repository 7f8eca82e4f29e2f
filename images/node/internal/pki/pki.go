// Package pki issues the node's certificates from the authorities in the machine config.
//
// Keys are of the authority's own kind (Ed25519 for the machine API, ECDSA P-256 for Kubernetes and etcd in configs
// that Talos generates): no RSA key is ever made here, which under emulation would take seconds.
package pki

import (
	stdx509 "crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/siderolabs/crypto/x509"
)

const (
	// validity is longer than Talos' for the machine API (one day): a cluster restored from a snapshot has to work.
	validity = 365 * 24 * time.Hour
	// early is how far certificates reach into the past, for clocks that are behind after such a restore.
	early = 24 * time.Hour
)

// Usage is what a certificate is good for.
type Usage int

// The usages that occur on a node.
const (
	Server Usage = iota
	Client
	Both
)

// Request describes a certificate.
type Request struct {
	CommonName   string
	Organization []string
	Addresses    []netip.Addr
	Names        []string
	Usage        Usage
}

// Issue makes a key and a certificate signed by the authority.
func Issue(authority *x509.PEMEncodedCertificateAndKey, r Request) (*x509.PEMEncodedCertificateAndKey, error) {
	ca, err := x509.NewCertificateAuthorityFromCertificateAndKey(authority)
	if err != nil {
		return nil, fmt.Errorf("load the authority for the certificate of %q: %w", r.CommonName, err)
	}

	pair, err := x509.NewKeyPair(ca, r.options()...)
	if err != nil {
		return nil, fmt.Errorf("issue the certificate of %q: %w", r.CommonName, err)
	}

	return x509.NewCertificateAndKeyFromKeyPair(pair), nil
}

// SelfSigned makes the certificate of the maintenance service.
func SelfSigned(r Request) (*x509.PEMEncodedCertificateAndKey, error) {
	ca, err := x509.NewSelfSignedCertificateAuthority(x509.Organization("reference node"), x509.NotAfter(time.Now().Add(validity)), x509.NotBefore(time.Now().Add(-early)))
	if err != nil {
		return nil, err
	}

	return Issue(x509.NewCertificateAndKeyFromCertificateAuthority(ca), r)
}

func (r Request) options() []x509.Option {
	ips := make([]net.IP, 0, len(r.Addresses))
	for _, a := range r.Addresses {
		ips = append(ips, a.AsSlice())
	}

	var extended []stdx509.ExtKeyUsage

	if r.Usage == Server || r.Usage == Both {
		extended = append(extended, stdx509.ExtKeyUsageServerAuth)
	}

	if r.Usage == Client || r.Usage == Both {
		extended = append(extended, stdx509.ExtKeyUsageClientAuth)
	}

	return []x509.Option{
		x509.CommonName(r.CommonName),
		x509.Organization(r.Organization...),
		x509.IPAddresses(ips),
		x509.DNSNames(r.Names),
		x509.NotBefore(time.Now().Add(-early)),
		x509.NotAfter(time.Now().Add(validity)),
		x509.KeyUsage(stdx509.KeyUsageDigitalSignature),
		x509.ExtKeyUsage(extended),
	}
}

// SplitSANs sorts subject names into addresses and DNS names, without duplicates.
func SplitSANs(names ...string) (addresses []netip.Addr, dns []string) {
	seen := map[string]bool{}

	for _, n := range names {
		if n == "" || seen[n] {
			continue
		}

		seen[n] = true

		if a, err := netip.ParseAddr(n); err == nil {
			addresses = append(addresses, a)
		} else {
			dns = append(dns, n)
		}
	}

	return addresses, dns
}
