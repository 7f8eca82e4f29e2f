package kube

import (
	"net/netip"
	"slices"
)

// Paths of programs and files, as in Talos where Talos has them.
const (
	BinDir        = "/usr/bin/"
	SecretsDir    = "/system/secrets/"
	ConfigDir     = "/system/config/"
	EtcdDataDir   = "/var/lib/etcd"
	KubeletConfig = "/etc/kubernetes/kubelet.yaml"
	// BootstrapKubeconfig, KubeletKubeconfig and KubeletPKI are the kubelet's own files.
	BootstrapKubeconfig = "/etc/kubernetes/bootstrap-kubeconfig"
	KubeletKubeconfig   = "/etc/kubernetes/kubeconfig-kubelet"
	KubeletPKI          = "/var/lib/kubelet/pki"
	KubeletClientCert   = KubeletPKI + "/kubelet-client-current.pem"
	ClusterCA           = "/etc/kubernetes/pki/ca.crt"
	CRISocket           = "unix:///run/containerd/containerd.sock"
	PodResolvConf       = "/system/resolved/resolv.conf"
	// etcdSocket is where the API server of the same node reaches etcd without TLS; only root can enter its directory.
	etcdSocket = "/run/etcd/client.sock"
)

// Node is what rendering needs to know about the machine.
type Node struct {
	Name      string
	Domain    string
	IP        netip.Addr // registered with Kubernetes
	Addresses []netip.Addr
	// Speed switches the choices of speed.go.
	Speed bool
	// ControlPlanes is the number of control plane nodes that are known, at least one.
	ControlPlanes int
	// APIServer is what the node's own clients connect to (KubePrism or the cluster endpoint).
	APIServer string
}

func environ(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for k, v := range env {
		out = append(out, k+"="+v)
	}

	slices.Sort(out)

	return out
}
