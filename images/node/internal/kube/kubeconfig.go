package kube

import (
	"bytes"
	stdbase64 "encoding/base64"
	"fmt"
	"net/url"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"go.yaml.in/yaml/v4"

	"lab/images/node/internal/pki"
)

// ProxyKubeconfig is the kubeconfig of kube-proxy and of the node's own route watch.
const ProxyKubeconfig = SecretsDir + "kube-proxy/kubeconfig"

// User is how a kubeconfig authenticates; exactly one way is set.
type User struct {
	Cert, Key         []byte
	CertFile, KeyFile string
	Token             string
}

type named struct {
	Name    string         `yaml:"name"`
	Cluster map[string]any `yaml:"cluster,omitempty"`
	User    map[string]any `yaml:"user,omitempty"`
	Context map[string]any `yaml:"context,omitempty"`
}

// Kubeconfig renders a kubeconfig with one cluster and one user.
func Kubeconfig(cluster, user, server string, ca []byte, u User) ([]byte, error) {
	auth := map[string]any{}

	switch {
	case u.Token != "":
		auth["token"] = u.Token
	case u.CertFile != "":
		auth["client-certificate"], auth["client-key"] = u.CertFile, u.KeyFile
	default:
		auth["client-certificate-data"], auth["client-key-data"] = base64(u.Cert), base64(u.Key)
	}

	context := user + "@" + cluster

	return yaml.Marshal(struct {
		APIVersion string  `yaml:"apiVersion"`
		Kind       string  `yaml:"kind"`
		Clusters   []named `yaml:"clusters"`
		Users      []named `yaml:"users"`
		Contexts   []named `yaml:"contexts"`
		Current    string  `yaml:"current-context"`
	}{
		APIVersion: "v1",
		Kind:       "Config",
		Clusters:   []named{{Name: cluster, Cluster: map[string]any{"server": server, "certificate-authority-data": base64(ca)}}},
		Users:      []named{{Name: context, User: auth}},
		Contexts:   []named{{Name: context, Context: map[string]any{"cluster": cluster, "namespace": "default", "user": context}}},
		Current:    context,
	})
}

// AdminKubeconfig makes the kubeconfig of the cluster's administrator, as the Kubeconfig call returns it.
func AdminKubeconfig(cfg config.Config) ([]byte, error) {
	cluster := cfg.Cluster()
	if cluster.IssuingCA() == nil {
		return nil, fmt.Errorf("the machine config has no Kubernetes CA key: only a control plane can issue a kubeconfig")
	}

	admin := cluster.AdminKubeconfig()

	return issuedKubeconfig(cfg, "admin", cluster.Endpoint(), pki.Request{
		CommonName: admin.CommonName(), Organization: []string{admin.CertOrganization()}, Usage: pki.Client,
	})
}

func issuedKubeconfig(cfg config.Config, user string, server *url.URL, r pki.Request) ([]byte, error) {
	pair, err := pki.Issue(cfg.Cluster().IssuingCA(), r)
	if err != nil {
		return nil, err
	}

	return Kubeconfig(cfg.Cluster().Name(), user, server.String(), AcceptedCAs(cfg), User{Cert: pair.Crt, Key: pair.Key})
}

// AcceptedCAs is the bundle of authorities that API servers are verified with.
func AcceptedCAs(cfg config.Config) []byte {
	var all [][]byte

	if ca := cfg.Cluster().IssuingCA(); ca != nil {
		all = append(all, ca.Crt)
	}

	for _, ca := range cfg.Cluster().AcceptedCAs() {
		all = append(all, ca.Crt)
	}

	return bytes.Join(all, []byte("\n"))
}

func base64(b []byte) string { return stdbase64.StdEncoding.EncodeToString(b) }
