package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
)

// cipherSuites is Talos' list for externally facing servers.
const cipherSuites = "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384,TLS_CHACHA20_POLY1305_SHA256," +
	"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256," +
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"

// APIServerArgs renders the arguments of kube-apiserver; the defaults are Talos' (ControlPlaneStaticPodController).
func APIServerArgs(cfg config.Config, n Node) ([]string, error) {
	cluster := cfg.Cluster()
	dir := SecretsDir + "kube-apiserver/"
	endpoint := cluster.Endpoint().String()

	f := Flags{}
	f.set(map[string]string{
		"advertise-address":                  n.IP.String(),
		"allow-privileged":                   "true",
		"anonymous-auth":                     "false",
		"api-audiences":                      endpoint,
		"authorization-mode":                 "Node,RBAC",
		"bind-address":                       "0.0.0.0",
		"client-ca-file":                     dir + "ca.crt",
		"enable-admission-plugins":           "NodeRestriction",
		"enable-bootstrap-token-auth":        "true",
		"encryption-provider-config":         dir + "encryptionconfig.yaml",
		"etcd-cafile":                        dir + "etcd-client-ca.crt",
		"etcd-certfile":                      dir + "etcd-client.crt",
		"etcd-keyfile":                       dir + "etcd-client.key",
		"etcd-servers":                       "https://127.0.0.1:2379",
		"kubelet-client-certificate":         dir + "apiserver-kubelet-client.crt",
		"kubelet-client-key":                 dir + "apiserver-kubelet-client.key",
		"kubelet-preferred-address-types":    "InternalIP,ExternalIP,Hostname",
		"profiling":                          "false",
		"proxy-client-cert-file":             dir + "front-proxy-client.crt",
		"proxy-client-key-file":              dir + "front-proxy-client.key",
		"requestheader-allowed-names":        "front-proxy-client",
		"requestheader-client-ca-file":       dir + "aggregator-ca.crt",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-username-headers":     "X-Remote-User",
		"secure-port":                        strconv.Itoa(cluster.LocalAPIServerPort()),
		"service-account-issuer":             endpoint,
		"service-account-key-file":           dir + "service-account.pub",
		"service-account-signing-key-file":   dir + "service-account.key",
		"service-cluster-ip-range":           strings.Join(cluster.Network().ServiceCIDRs(), ","),
		"tls-cert-file":                      dir + "apiserver.crt",
		"tls-cipher-suites":                  cipherSuites,
		"tls-min-version":                    "VersionTLS12",
		"tls-private-key-file":               dir + "apiserver.key",
	})

	// Talos audits by default and switches it off with a policy of level None. A policy file costs work on every
	// request, so it is passed on only when it asks for something.
	if auditWanted(cluster.APIServer().AuditPolicy()) {
		f.set(map[string]string{
			"audit-policy-file":   ConfigDir + "kube-apiserver/auditpolicy.yaml",
			"audit-log-path":      "/var/log/audit/kube/kube-apiserver.log",
			"audit-log-maxage":    "30",
			"audit-log-maxbackup": "10",
			"audit-log-maxsize":   "100",
		})
	}

	if len(cluster.APIServer().AdmissionControl()) > 0 {
		f.set(map[string]string{"admission-control-config-file": ConfigDir + "kube-apiserver/admission-control-config.yaml"})
	}

	applySpeed("kube-apiserver", f, n)

	policies := denied("etcd-servers", "client-ca-file", "requestheader-client-ca-file", "proxy-client-cert-file", "proxy-client-key-file",
		"encryption-provider-config", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "kubelet-client-certificate", "kubelet-client-key",
		"service-account-key-file", "service-account-signing-key-file", "tls-cert-file", "tls-private-key-file", "authorization-config")
	for _, name := range []string{"enable-admission-plugins", "feature-gates", "authorization-mode", "tls-cipher-suites"} {
		policies[name] = Add
	}

	if err := f.Merge(cluster.APIServer().ExtraArgs(), policies); err != nil {
		return nil, fmt.Errorf("cluster.apiServer.extraArgs: %w", err)
	}

	return f.Args(), nil
}

// auditWanted tells an audit policy that records something from one whose every rule has level None. The default
// policy of machinery (one rule, level Metadata) counts as "not asked for": it is in every generated config.
func auditWanted(policy map[string]any) bool {
	rules, _ := policy["rules"].([]any)

	for _, r := range rules {
		rule, ok := r.(map[string]any)
		if !ok {
			continue
		}

		level, _ := rule["level"].(string)
		if level != "" && level != "None" && (level != "Metadata" || len(rules) > 1 || len(rule) > 1) {
			return true
		}
	}

	return false
}

// ControllerManagerArgs renders the arguments of kube-controller-manager.
func ControllerManagerArgs(cfg config.Config, n Node) ([]string, error) {
	cluster := cfg.Cluster()
	dir := SecretsDir + "kube-controller-manager/"

	f := Flags{}
	f.set(map[string]string{
		"allocate-node-cidrs":              "true",
		"authentication-kubeconfig":        dir + "kubeconfig",
		"authorization-kubeconfig":         dir + "kubeconfig",
		"bind-address":                     "127.0.0.1",
		"cluster-cidr":                     strings.Join(cluster.Network().PodCIDRs(), ","),
		"cluster-signing-cert-file":        dir + "ca.crt",
		"cluster-signing-key-file":         dir + "ca.key",
		"configure-cloud-routes":           "false",
		"controllers":                      "*,tokencleaner",
		"kubeconfig":                       dir + "kubeconfig",
		"leader-elect":                     "true",
		"profiling":                        "false",
		"root-ca-file":                     dir + "ca.crt",
		"service-account-private-key-file": dir + "service-account.key",
		"service-cluster-ip-range":         strings.Join(cluster.Network().ServiceCIDRs(), ","),
		"tls-min-version":                  "VersionTLS13",
		"use-service-account-credentials":  "true",
	})

	applySpeed("kube-controller-manager", f, n)

	policies := denied("cluster-signing-cert-file", "cluster-signing-key-file", "authentication-kubeconfig", "authorization-kubeconfig",
		"root-ca-file", "service-account-private-key-file")
	policies["service-cluster-ip-range"] = Add
	policies["controllers"] = Add

	if err := f.Merge(cluster.ControllerManager().ExtraArgs(), policies); err != nil {
		return nil, fmt.Errorf("cluster.controllerManager.extraArgs: %w", err)
	}

	return f.Args(), nil
}

// SchedulerArgs renders the arguments of kube-scheduler.
func SchedulerArgs(cfg config.Config, n Node) ([]string, error) {
	dir := SecretsDir + "kube-scheduler/"

	f := Flags{}
	f.set(map[string]string{
		"authentication-kubeconfig": dir + "kubeconfig",
		"authorization-kubeconfig":  dir + "kubeconfig",
		"bind-address":              "127.0.0.1",
		"config":                    ConfigDir + "kube-scheduler/scheduler-config.yaml",
		"profiling":                 "false",
		"tls-min-version":           "VersionTLS13",
	})

	applySpeed("kube-scheduler", f, n)

	if err := f.Merge(cfg.Cluster().Scheduler().ExtraArgs(), denied("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig", "config")); err != nil {
		return nil, fmt.Errorf("cluster.scheduler.extraArgs: %w", err)
	}

	return f.Args(), nil
}

// EtcdArgs renders the arguments of etcd for the first and only member of a cluster.
func EtcdArgs(cfg config.Config, n Node) ([]string, error) {
	dir := SecretsDir + "etcd/"
	peer := "https://" + hostPort(n, 2380)

	f := Flags{}
	f.set(map[string]string{
		"advertise-client-urls":          "https://" + hostPort(n, 2379),
		"cert-file":                      dir + "server.crt",
		"client-cert-auth":               "true",
		"data-dir":                       EtcdDataDir,
		"initial-advertise-peer-urls":    peer,
		"initial-cluster":                n.Name + "=" + peer,
		"initial-cluster-state":          "new",
		"key-file":                       dir + "server.key",
		"listen-client-urls":             "https://0.0.0.0:2379",
		"listen-peer-urls":               "https://0.0.0.0:2380",
		"log-level":                      "warn",
		"name":                           n.Name,
		"peer-cert-file":                 dir + "peer.crt",
		"peer-client-cert-auth":          "true",
		"peer-key-file":                  dir + "peer.key",
		"peer-trusted-ca-file":           dir + "ca.crt",
		"trusted-ca-file":                dir + "ca.crt",
		"watch-progress-notify-interval": "5s",
	})

	applySpeed("etcd", f, n)

	if err := f.Merge(cfg.Cluster().Etcd().ExtraArgs(), denied("name", "data-dir", "client-cert-auth", "cert-file", "key-file", "trusted-ca-file",
		"peer-client-cert-auth", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "listen-peer-urls", "listen-client-urls")); err != nil {
		return nil, fmt.Errorf("cluster.etcd.extraArgs: %w", err)
	}

	return f.Args(), nil
}

func hostPort(n Node, port int) string {
	if n.IP.Is6() {
		return fmt.Sprintf("[%s]:%d", n.IP, port)
	}

	return fmt.Sprintf("%s:%d", n.IP, port)
}

// PrepareEtcdSocket makes the directory of etcd's local socket, for root only.
func PrepareEtcdSocket() error {
	return os.MkdirAll(filepath.Dir(etcdSocket), 0o700)
}
