package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/role"
)

// loadSecrets reads a bundle as talosctl does, which takes a file.
func loadSecrets(text string) (*secrets.Bundle, error) {
	directory, err := os.MkdirTemp("", "machinery")
	if err != nil {
		return nil, err
	}

	defer os.RemoveAll(directory) //nolint:errcheck // a temporary directory

	path := filepath.Join(directory, "secrets.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}

	return secrets.LoadBundle(path)
}

// checkSecrets loads and validates a bundle and reads all its keys.
func checkSecrets(q question) (string, error) {
	bundle, err := loadSecrets(q.Config)
	if err != nil {
		return "", err
	}

	if err := bundle.Validate(); err != nil {
		return "", err
	}

	if _, err := bundle.Certs.K8sServiceAccount.GetKey(); err != nil {
		return "", fmt.Errorf("service account key: %w", err)
	}

	// The library signs with the machine authority: the library must be able to use its key.
	if _, err := bundle.GenerateTalosAPIClientCertificate(role.MakeSet(role.Admin)); err != nil {
		return "", fmt.Errorf("machine authority: %w", err)
	}

	return "", nil
}

// checkTalosconfig loads a client file and verifies its certificate the way apid does; the result
// is the roles that it carries.
func checkTalosconfig(q question) (string, error) {
	cfg, err := clientconfig.FromString(q.Config)
	if err != nil {
		return "", err
	}

	context, ok := cfg.Contexts[cfg.Context]
	if !ok {
		return "", fmt.Errorf("no context %q", cfg.Context)
	}

	decode := func(text string) []byte {
		data, decodeErr := base64.StdEncoding.DecodeString(text)
		err = errors.Join(err, decodeErr)

		return data
	}

	authority, crt, key := decode(context.CA), decode(context.Crt), decode(context.Key)
	if err != nil {
		return "", err
	}

	pair, err := tls.X509KeyPair(crt, key)
	if err != nil {
		return "", err
	}

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return "", errors.New("the ca holds no certificate")
	}

	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return "", err
	}

	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if !slices.Equal(leaf.ExtKeyUsage, usages) {
		return "", fmt.Errorf("extended key usage %v; apid wants exactly clientAuth", leaf.ExtKeyUsage)
	}

	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usages}); err != nil {
		return "", err
	}

	roles, unknown := role.Parse(leaf.Subject.Organization)
	if len(unknown) > 0 {
		return "", fmt.Errorf("unknown roles %v", unknown)
	}

	return fmt.Sprint(roles.Strings()), nil
}
