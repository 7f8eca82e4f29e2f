package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	sidero "github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"lab/images/node/internal/api"
	"lab/images/node/internal/console"
	"lab/images/node/internal/cri"
	"lab/images/node/internal/imagecache"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/pki"
	"lab/images/node/internal/process"
	"lab/images/node/internal/supervise"
)

// serviceSet lists the node's services as data; the supervisor orders them by what they wait for.
func (m *Machine) serviceSet(ctx context.Context) ([]supervise.Service, error) {
	cfg := m.config()

	services := []supervise.Service{
		{
			ID:     "machined",
			Serve:  func(ctx context.Context) error { <-ctx.Done(); return nil },
			Health: healthCheck(func(context.Context) error { _, err := os.Stat("/proc/1/comm"); return err }),
		},
		m.apid(),
		{
			ID: "containerd",
			Command: func(context.Context) (process.Command, error) {
				return process.Command{
					Path:   kube.BinDir + "containerd",
					Args:   []string{"--config", cri.ConfigFile},
					Env:    kube.ComponentEnv(m.facts().Speed, kube.MemoryLimits["containerd"], cfg.Machine().Env()),
					Cgroup: "/podruntime/runtime",
				}, nil
			},
			Health: healthCheck(dial("unix", cri.Socket)),
		},
		{
			// In Talos a second containerd; here the CRI plugin of the one above. It is up when its socket answers.
			ID:        "cri",
			DependsOn: []string{"containerd"},
			Serve:     func(ctx context.Context) error { <-ctx.Done(); return nil },
			Health:    healthCheck(dial("unix", cri.Socket)),
		},
		m.kubelet(),
	}

	if m.imageCache {
		services = append(services, supervise.Service{
			ID:     "registryd",
			Serve:  imagecache.Serve,
			Health: healthCheck(httpOK(imagecache.Endpoint + "/healthz")),
		})
	}

	if cfg.Machine().Type().IsControlPlane() {
		services = append(services, m.trustd(), m.etcd())
		m.store.EtcdMember(m.ownEtcdMember)
		services = append(services, m.controlPlane(ctx)...)
	}

	if cfg.Cluster().Proxy().Enabled() {
		services = append(services, m.kubeProxy())
	}

	m.startKubernetesClients(ctx)

	return append(services, m.extensionServices()...), nil
}

// ownEtcdMember asks the node's etcd for its id.
func (m *Machine) ownEtcdMember() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	answer, err := m.apiMachine().EtcdStatus(ctx, nil)
	if err != nil {
		return 0, err
	}

	return answer.GetMessages()[0].GetMemberStatus().GetMemberId(), nil
}

// healthCheck looks often until the first success, because others wait for it, and seldom afterwards.
func healthCheck(check func(context.Context) error) *supervise.Health {
	return &supervise.Health{Check: check, Initial: 200 * time.Millisecond, Interval: 15 * time.Second, Timeout: 5 * time.Second}
}

func dial(network, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer

		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return err
		}

		return conn.Close()
	}
}

func httpOK(url string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}

		response, err := client.Do(request)
		if err != nil {
			return err
		}

		response.Body.Close()

		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("expected HTTP status OK, got %s", response.Status)
		}

		return nil
	}
}

// apid serves the API with client authentication. A control plane signs its certificate itself, a worker asks trustd.
func (m *Machine) apid() supervise.Service {
	var settings *api.TLS

	return supervise.Service{
		ID:         "apid",
		Conditions: []supervise.Condition{m.apiCertificates},
		Prepare: func(context.Context) error {
			cert, err := os.ReadFile(apiCert)
			if err != nil {
				return err
			}

			key, err := os.ReadFile(apiKey)
			if err != nil {
				return err
			}

			settings, err = api.NewTLS(cert, key, api.AcceptedCAs(m.config().Machine().Security()))

			return err
		},
		Serve: func(ctx context.Context) error {
			console.Milestone("api-up")

			access := api.Access{Contract: m.args.Contract, Own: m.ownNames}

			if m.config().Machine().Type().IsControlPlane() {
				access.Forwarder = &api.Forwarder{TLS: m.forwardingTLS}
				defer access.Forwarder.Close()
			}

			return api.Serve(ctx, m.apiMachine(), access, settings)
		},
		Health: healthCheck(dial("tcp", fmt.Sprintf("127.0.0.1:%d", api.Port))),
	}
}

// forwardingTLS are the settings for calls to other nodes. The certificate has the role with which a node may speak for
// its callers.
func (m *Machine) forwardingTLS() (*tls.Config, error) {
	security := m.config().Machine().Security()

	issued, err := pki.Issue(security.IssuingCA(), pki.Request{
		CommonName: m.Hostname(), Organization: []string{string(role.Impersonator)}, Usage: pki.Client,
	})
	if err != nil {
		return nil, err
	}

	return api.ClientTLS(issued.Crt, issued.Key, api.AcceptedCAs(security))
}

// The API's certificate lives in memory only, like all certificates that are issued at boot.
const (
	apiCert = kube.SecretsDir + "apid/server.crt"
	apiKey  = kube.SecretsDir + "apid/server.key"
)

func (m *Machine) ownNames() []string {
	node := m.facts()
	names := []string{node.Name, m.Hostname(), "127.0.0.1", "localhost"}

	for _, a := range node.Addresses {
		names = append(names, a.String())
	}

	return names
}

func (m *Machine) apiSubject() pki.Request {
	node := m.facts()
	sans := append([]string{m.Hostname(), node.Name}, m.config().Machine().Security().CertSANs()...)

	if node.Domain != "" {
		sans = append(sans, m.Hostname()+"."+node.Domain)
	}

	for _, a := range node.Addresses {
		sans = append(sans, a.String())
	}

	addresses, names := pki.SplitSANs(sans...)

	return pki.Request{CommonName: m.Hostname(), Addresses: addresses, Names: names, Usage: pki.Server}
}

// issueAPICertificate gets apid its certificate and opens the gate that apid waits for.
func (m *Machine) issueAPICertificate(ctx context.Context) error {
	security := m.config().Machine().Security()
	subject := m.apiSubject()

	var cert, key []byte

	if m.config().Machine().Type().IsControlPlane() {
		pair, err := pki.Issue(security.IssuingCA(), subject)
		if err != nil {
			return err
		}

		cert, key = pair.Crt, pair.Key
	} else {
		csr, identity, err := workerCSR(api.AcceptedCAs(security), subject)
		if err != nil {
			return err
		}

		host := m.config().Cluster().Endpoint().Hostname()

		var said string

		cert, err = api.RequestCertificate(ctx, security, host, csr, func(err error) {
			if text := err.Error(); text != said { // said once, not at every attempt
				said = text
				console.Printf("certificate request to trustd of %s: %v", host, err)
			}
		})
		if err != nil {
			return err
		}

		key = identity
	}

	if err := kube.WriteFiles([]kube.File{{Path: apiCert, Content: cert}, {Path: apiKey, Content: key}}); err != nil {
		return err
	}

	m.apiCertificates.Open()

	return nil
}

// workerCSR makes a key of the authority's kind and a request for a server certificate.
func workerCSR(ca []byte, subject pki.Request) (csr, key []byte, err error) {
	authority, err := (&sidero.PEMEncodedCertificate{Crt: ca}).GetCert()
	if err != nil {
		return nil, nil, fmt.Errorf("machine.ca: %w", err)
	}

	request, identity, err := newCSR(authority, subject)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request for the API: %w", err)
	}

	return request, identity, nil
}

func newCSR(authority *x509.Certificate, subject pki.Request) ([]byte, []byte, error) {
	ips := make([]net.IP, 0, len(subject.Addresses))
	for _, a := range subject.Addresses {
		ips = append(ips, a.AsSlice())
	}

	request, identity, err := sidero.NewCSRAndIdentityFromCA(authority,
		sidero.IPAddresses(ips), sidero.DNSNames(subject.Names), sidero.CommonName(subject.CommonName))
	if err != nil {
		return nil, nil, err
	}

	return request.X509CertificateRequestPEM, identity.Key, nil
}

// trustd signs the workers' API certificates.
func (m *Machine) trustd() supervise.Service {
	return supervise.Service{
		ID:         "trustd",
		Conditions: []supervise.Condition{m.apiCertificates, m.timeSynced},
		Serve: func(ctx context.Context) error {
			cert, err := os.ReadFile(apiCert)
			if err != nil {
				return err
			}

			key, err := os.ReadFile(apiKey)
			if err != nil {
				return err
			}

			settings, err := api.NewTLS(cert, key, nil)
			if err != nil {
				return err
			}

			return api.ServeTrustd(ctx, m.config().Machine().Security(), settings)
		},
		Health: healthCheck(dial("tcp", fmt.Sprintf("127.0.0.1:%d", api.TrustdPort))),
	}
}
