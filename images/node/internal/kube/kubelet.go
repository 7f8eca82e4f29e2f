package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"go.yaml.in/yaml/v4"
)

// controlPlaneTaint keeps ordinary pods off the control plane.
const controlPlaneTaint = "node-role.kubernetes.io/control-plane"

// protectedKubeletFields cannot be overridden by machine.kubelet.extraConfig (machinery's kubelet.ProtectedConfigurationFields).
var protectedKubeletFields = []string{
	"apiVersion", "authentication", "authorization", "cgroupRoot", "kind", "kubeletCgroups", "port", "protectKernelDefaults",
	"resolvConf", "rotateCertificates", "staticPodPath", "staticPodURL", "systemCgroups",
}

// KubeletArgs renders the arguments of the kubelet.
func KubeletArgs(cfg config.Config, n Node) ([]string, error) {
	kubelet := cfg.Machine().Kubelet()

	f := Flags{}
	f.set(map[string]string{
		"bootstrap-kubeconfig": BootstrapKubeconfig,
		"cert-dir":             KubeletPKI,
		"config":               KubeletConfig,
		"hostname-override":    n.Name,
		"kubeconfig":           KubeletKubeconfig,
		"node-ip":              n.IP.String(),
	})

	if labels := kubeletLabels(cfg.Machine().NodeLabels()); labels != "" {
		f.set(map[string]string{"node-labels": labels})
	}

	if cfg.Cluster().ExternalCloudProvider().Enabled() {
		f.set(map[string]string{"cloud-provider": "external"})
	}

	err := f.Merge(kubelet.ExtraArgs(), denied("bootstrap-kubeconfig", "kubeconfig", "container-runtime", "container-runtime-endpoint", "config", "cert-dir"))
	if err != nil {
		return nil, fmt.Errorf("machine.kubelet.extraArgs: %w", err)
	}

	return f.Args(), nil
}

// kubeletLabels are the labels that a kubelet may give itself; the others (node-role.kubernetes.io and the like) are
// set through the API by the control plane.
func kubeletLabels(labels map[string]string) string {
	var out []string

	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !RestrictedLabel(key) {
			out = append(out, key+"="+labels[key])
		}
	}

	return strings.Join(out, ",")
}

// RestrictedLabel tells a label that NodeRestriction does not let a kubelet set on itself.
func RestrictedLabel(key string) bool {
	domain, _, found := strings.Cut(key, "/")
	if !found {
		return false
	}

	for _, allowed := range []string{"kubelet.kubernetes.io", "node.kubernetes.io"} {
		if domain == allowed || strings.HasSuffix(domain, "."+allowed) {
			return false
		}
	}

	return domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") || domain == "k8s.io" || strings.HasSuffix(domain, ".k8s.io")
}

// KubeletConfiguration renders the kubelet's configuration file; the defaults are Talos' (NewKubeletConfiguration).
func KubeletConfiguration(cfg config.Config, n Node) ([]byte, error) {
	kubelet := cfg.Machine().Kubelet()

	// Talos' shutdownGracePeriod is left out: without logind the kubelet could not inhibit a shutdown.
	out := map[string]any{
		"cgroupDriver":                   "cgroupfs",
		"clusterDomain":                  cfg.Cluster().Network().DNSDomain(),
		"containerRuntimeEndpoint":       CRISocket,
		"failSwapOn":                     false,
		"logging":                        map[string]any{"format": "text"},
		"oomScoreAdj":                    -450,
		"serializeImagePulls":            false,
		"streamingConnectionIdleTimeout": "5m0s",
		"tlsMinVersion":                  "VersionTLS13",
		"volumePluginDir":                "/var/lib/kubelet/volumeplugins",
		"systemReserved": map[string]any{
			"cpu": "50m", "ephemeral-storage": "256Mi", "pid": "100", "memory": reservedMemory(cfg),
		},
	}

	dns, err := clusterDNS(cfg)
	if err != nil {
		return nil, err
	}

	out["clusterDNS"] = dns

	if kubelet.DefaultRuntimeSeccompProfileEnabled() {
		out["seccompDefault"] = true
	}

	if taints := nodeTaints(cfg); len(taints) > 0 {
		out["registerWithTaints"] = taints
	}

	for key, value := range kubelet.ExtraConfig() {
		if slices.Contains(protectedKubeletFields, key) {
			return nil, fmt.Errorf("machine.kubelet.extraConfig: field %q can't be overridden", key)
		}

		out[key] = value
	}

	maps.Copy(out, map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": ClusterCA},
		},
		"authorization":         map[string]any{"mode": "Webhook"},
		"cgroupRoot":            "/",
		"kubeletCgroups":        "/podruntime/kubelet",
		"port":                  10250,
		"protectKernelDefaults": true,
		"resolvConf":            PodResolvConf,
		"rotateCertificates":    true,
		"systemCgroups":         "/system",
	})

	return yaml.Marshal(out)
}

func reservedMemory(cfg config.Config) string {
	// Here the control plane components are processes of the host and not pods, so Talos' 512Mi covers them only partly.
	if cfg.Machine().Type().IsControlPlane() {
		return "512Mi"
	}

	return "384Mi"
}

func clusterDNS(cfg config.Config) ([]string, error) {
	if given := cfg.Machine().Kubelet().ClusterDNS(); len(given) > 0 {
		return given, nil
	}

	ips, err := cfg.Cluster().Network().DNSServiceIPs()
	if err != nil {
		return nil, fmt.Errorf("the DNS service address of cluster.network.serviceSubnets: %w", err)
	}

	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		out = append(out, ip.String())
	}

	return out, nil
}

// nodeTaints are registered with the node. Their form in the machine config is key: value:effect.
func nodeTaints(cfg config.Config) []map[string]any {
	var taints []map[string]any

	if cfg.Machine().Type().IsControlPlane() && !cfg.Cluster().ScheduleOnControlPlanes() {
		taints = append(taints, map[string]any{"key": controlPlaneTaint, "effect": "NoSchedule"})
	}

	given := cfg.Machine().NodeTaints()

	for _, key := range slices.Sorted(maps.Keys(given)) {
		value, effect, found := strings.Cut(given[key], ":")
		if !found {
			value, effect = "", value
		}

		if key == controlPlaneTaint {
			continue
		}

		taints = append(taints, map[string]any{"key": key, "value": value, "effect": effect})
	}

	return taints
}

// NodeIP picks the address that the node registers with: the first that machine.kubelet.nodeIP.validSubnets allows.
func NodeIP(cfg config.Config, addresses []netip.Addr) (netip.Addr, error) {
	subnets := cfg.Machine().Kubelet().NodeIP().ValidSubnets()

	for _, address := range addresses {
		if allowed(subnets, address) {
			return address, nil
		}
	}

	return netip.Addr{}, fmt.Errorf("none of the node's addresses %v is in machine.kubelet.nodeIP.validSubnets %v", addresses, subnets)
}

func allowed(subnets []string, address netip.Addr) bool {
	result := len(subnets) == 0

	for _, s := range subnets {
		exclude := strings.HasPrefix(s, "!")

		prefix, err := netip.ParsePrefix(strings.TrimPrefix(s, "!"))
		if err != nil || !prefix.Contains(address) {
			if exclude {
				result = result || len(subnets) == 1
			}

			continue
		}

		if exclude {
			return false
		}

		result = true
	}

	return result
}

// ProxyArgs renders the arguments of kube-proxy, which runs as a process of the host.
func ProxyArgs(cfg config.Config, n Node) ([]string, error) {
	proxy := cfg.Cluster().Proxy()

	// Talos' default is nftables since 1.12; older configs say iptables, for which the image has no tools.
	mode := proxy.Mode()
	if mode == "" || mode == "iptables" {
		mode = "nftables"
	}

	f := Flags{}
	f.set(map[string]string{
		"cluster-cidr":           strings.Join(cfg.Cluster().Network().PodCIDRs(), ","),
		"conntrack-max-per-core": "0", // the agent sets the limit
		"hostname-override":      n.Name,
		"kubeconfig":             ProxyKubeconfig,
		"nodeport-addresses":     "primary",
		"proxy-mode":             mode,
	})

	if err := f.Merge(proxy.ExtraArgs(), denied("kubeconfig")); err != nil {
		return nil, fmt.Errorf("cluster.proxy.extraArgs: %w", err)
	}

	return f.Args(), nil
}
