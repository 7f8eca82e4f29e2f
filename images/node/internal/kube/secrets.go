package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"go.yaml.in/yaml/v4"

	"lab/images/node/internal/pki"
)

// File is something to write before a component starts.
type File struct {
	Path    string
	Content []byte
}

// WriteFiles writes files that only root reads. Their directories are on a tmpfs: secrets of Kubernetes are issued
// anew at each boot from the authorities of the machine config, as Talos does.
func WriteFiles(files []File) error {
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
			return err
		}

		if err := os.WriteFile(f.Path, f.Content, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}

	return nil
}

// EtcdFiles issues what etcd needs.
func EtcdFiles(cfg config.Config, n Node) ([]File, error) {
	dir := SecretsDir + "etcd/"
	ca := cfg.Cluster().Etcd().CA()
	addresses, names := pki.SplitSANs(append([]string{n.Name, "localhost", "127.0.0.1", "::1"}, strs(n)...)...)

	return issueAll(
		[]File{{dir + "ca.crt", ca.Crt}},
		issue{ca, dir + "server", pki.Request{CommonName: n.Name, Addresses: addresses, Names: names, Usage: pki.Both}},
		issue{ca, dir + "peer", pki.Request{CommonName: n.Name, Addresses: addresses, Names: names, Usage: pki.Both}},
		issue{ca, dir + "admin", pki.Request{CommonName: "talos", Usage: pki.Client}},
	)
}

// APIServerFiles issues what kube-apiserver needs.
func APIServerFiles(cfg config.Config, n Node) ([]File, error) {
	cluster := cfg.Cluster()
	dir := SecretsDir + "kube-apiserver/"
	ca, etcdCA, aggregator := cluster.IssuingCA(), cluster.Etcd().CA(), cluster.AggregatorCA()

	serviceIPs, err := cluster.Network().APIServerIPs()
	if err != nil {
		return nil, fmt.Errorf("the API server's address in cluster.network.serviceSubnets: %w", err)
	}

	sans := []string{
		cluster.Endpoint().Hostname(), "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + cluster.Network().DNSDomain(), "localhost", "127.0.0.1", n.Name,
	}
	if n.Domain != "" {
		sans = append(sans, n.Name+"."+n.Domain)
	}

	sans = append(append(sans, cluster.CertSANs()...), strs(n)...)
	for _, ip := range serviceIPs {
		sans = append(sans, ip.String())
	}

	addresses, names := pki.SplitSANs(sans...)

	key, err := cluster.ServiceAccount().GetKey()
	if err != nil {
		return nil, fmt.Errorf("cluster.serviceAccount.key: %w", err)
	}

	encryption, err := encryptionConfig(cluster)
	if err != nil {
		return nil, err
	}

	files := []File{
		{dir + "ca.crt", AcceptedCAs(cfg)},
		{dir + "etcd-client-ca.crt", etcdCA.Crt},
		{dir + "aggregator-ca.crt", aggregator.Crt},
		{dir + "service-account.pub", key.GetPublicKeyPEM()},
		{dir + "service-account.key", key.GetPrivateKeyPEM()},
		{dir + "encryptionconfig.yaml", encryption},
	}

	if policy := cluster.APIServer().AuditPolicy(); auditWanted(policy) {
		b, err := yaml.Marshal(policy)
		if err != nil {
			return nil, err
		}

		files = append(files, File{ConfigDir + "kube-apiserver/auditpolicy.yaml", b})
	}

	if plugins := cluster.APIServer().AdmissionControl(); len(plugins) > 0 {
		b, err := admissionConfig(plugins)
		if err != nil {
			return nil, err
		}

		files = append(files, File{ConfigDir + "kube-apiserver/admission-control-config.yaml", b})
	}

	return issueAll(files,
		issue{ca, dir + "apiserver", pki.Request{CommonName: "kube-apiserver", Organization: []string{"kube-master"}, Addresses: addresses, Names: names, Usage: pki.Server}},
		issue{ca, dir + "apiserver-kubelet-client", pki.Request{CommonName: "apiserver-kubelet-client", Organization: []string{"system:masters"}, Usage: pki.Client}},
		issue{aggregator, dir + "front-proxy-client", pki.Request{CommonName: "front-proxy-client", Usage: pki.Client}},
		issue{etcdCA, dir + "etcd-client", pki.Request{CommonName: "kube-apiserver", Usage: pki.Client}},
		// The agent's own access, for the bootstrap manifests and the labels of its node.
		issue{ca, SecretsDir + "admin", pki.Request{CommonName: "talos:admin", Organization: []string{"system:masters"}, Usage: pki.Client}},
	)
}

// ControllerFiles issues what kube-controller-manager and kube-scheduler need.
func ControllerFiles(cfg config.Config, n Node) ([]File, error) {
	cluster := cfg.Cluster()
	kcm, scheduler := SecretsDir+"kube-controller-manager/", SecretsDir+"kube-scheduler/"
	local := fmt.Sprintf("https://127.0.0.1:%d", cluster.LocalAPIServerPort())

	key, err := cluster.ServiceAccount().GetKey()
	if err != nil {
		return nil, fmt.Errorf("cluster.serviceAccount.key: %w", err)
	}

	schedulerConfig, err := schedulerConfig(cluster.Scheduler().Config(), scheduler+"kubeconfig")
	if err != nil {
		return nil, err
	}

	files := []File{
		{kcm + "ca.crt", cluster.IssuingCA().Crt},
		{kcm + "ca.key", cluster.IssuingCA().Key},
		{kcm + "service-account.key", key.GetPrivateKeyPEM()},
		{ConfigDir + "kube-scheduler/scheduler-config.yaml", schedulerConfig},
	}

	for user, path := range map[string]string{"system:kube-controller-manager": kcm + "kubeconfig", "system:kube-scheduler": scheduler + "kubeconfig"} {
		groups := []string{user}
		if n.Speed && user == "system:kube-controller-manager" {
			groups = append(groups, "system:masters") // see use-service-account-credentials in speed.go
		}

		pair, err := pki.Issue(cluster.IssuingCA(), pki.Request{CommonName: user, Organization: groups, Usage: pki.Client})
		if err != nil {
			return nil, err
		}

		content, err := Kubeconfig(cluster.Name(), user, local, AcceptedCAs(cfg), User{Cert: pair.Crt, Key: pair.Key})
		if err != nil {
			return nil, err
		}

		files = append(files, File{path, content})
	}

	return files, nil
}

// KubeletFiles renders what the kubelet and kube-proxy need on any node.
func KubeletFiles(cfg config.Config, n Node) ([]File, error) {
	configuration, err := KubeletConfiguration(cfg, n)
	if err != nil {
		return nil, err
	}

	token := cfg.Cluster().Token()

	bootstrap, err := Kubeconfig("local", "kubelet", n.APIServer, AcceptedCAs(cfg), User{Token: token.ID() + "." + token.Secret()})
	if err != nil {
		return nil, err
	}

	// kube-proxy and the route watch use the kubelet's certificate: a worker holds no other identity before pods run.
	proxy, err := Kubeconfig("local", "node", n.APIServer, AcceptedCAs(cfg), User{CertFile: KubeletClientCert, KeyFile: KubeletClientCert})
	if err != nil {
		return nil, err
	}

	return []File{
		{KubeletConfig, configuration},
		{BootstrapKubeconfig, bootstrap},
		{ClusterCA, AcceptedCAs(cfg)},
		{ProxyKubeconfig, proxy},
	}, nil
}

type issue struct {
	authority *x509.PEMEncodedCertificateAndKey
	path      string // without .crt and .key
	request   pki.Request
}

func issueAll(files []File, issues ...issue) ([]File, error) {
	for _, i := range issues {
		pair, err := pki.Issue(i.authority, i.request)
		if err != nil {
			return nil, err
		}

		files = append(files, File{i.path + ".crt", pair.Crt}, File{i.path + ".key", pair.Key})
	}

	return files, nil
}

func encryptionConfig(cluster config.ClusterConfig) ([]byte, error) {
	var providers []any

	if secret := cluster.SecretboxEncryptionSecret(); secret != "" {
		providers = append(providers, map[string]any{"secretbox": map[string]any{"keys": []any{map[string]any{"name": "key2", "secret": secret}}}})
	}

	if secret := cluster.AESCBCEncryptionSecret(); secret != "" {
		providers = append(providers, map[string]any{"aescbc": map[string]any{"keys": []any{map[string]any{"name": "key1", "secret": secret}}}})
	}

	providers = append(providers, map[string]any{"identity": map[string]any{}})

	return yaml.Marshal(map[string]any{
		"apiVersion": "apiserver.config.k8s.io/v1",
		"kind":       "EncryptionConfiguration",
		"resources":  []any{map[string]any{"resources": []string{"secrets"}, "providers": providers}},
	})
}

func admissionConfig(plugins []config.AdmissionPlugin) ([]byte, error) {
	var list []any

	for _, p := range plugins {
		list = append(list, map[string]any{"name": p.Name(), "configuration": p.Configuration()})
	}

	return yaml.Marshal(map[string]any{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": list})
}

func schedulerConfig(given map[string]any, kubeconfig string) ([]byte, error) {
	out := map[string]any{"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
	for k, v := range given {
		out[k] = v
	}

	connection, _ := out["clientConnection"].(map[string]any)
	if connection == nil {
		connection = map[string]any{}
	}

	connection["kubeconfig"] = kubeconfig
	out["clientConnection"] = connection

	return yaml.Marshal(out)
}

func strs(n Node) []string {
	out := make([]string, 0, len(n.Addresses))
	for _, a := range n.Addresses {
		out = append(out, a.String())
	}

	slices.Sort(out)

	return out
}

// String keeps file contents, which are secrets, out of logs.
func (f File) String() string { return strings.TrimSpace(f.Path) }
