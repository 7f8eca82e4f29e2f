package kube

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"
	"go.yaml.in/yaml/v4"
)

var node = Node{
	Name: "cp-1", Domain: "lab.test", IP: netip.MustParseAddr("10.5.0.10"), Addresses: []netip.Addr{netip.MustParseAddr("10.5.0.10")},
	Speed: true, ControlPlanes: 1, APIServer: "https://127.0.0.1:7445",
}

// bundle is made once: it holds an RSA key.
var bundle = sync.OnceValues(func() (*secrets.Bundle, error) {
	return secrets.NewBundle(secrets.NewClock(), config.TalosVersionCurrent)
})

// generated makes a config as talosctl does, with a strategic merge patch.
func generated(t *testing.T, kind machine.Type, patch string) config.Provider {
	t.Helper()

	bundle, err := bundle()
	if err != nil {
		t.Fatal(err)
	}

	input, err := generate.NewInput("lab", "https://10.5.0.10:6443", "1.34.2", generate.WithInstallDisk("/dev/vda"), generate.WithSecretsBundle(bundle))
	if err != nil {
		t.Fatal(err)
	}

	cfg, err := input.Config(kind)
	if err != nil {
		t.Fatal(err)
	}

	if patch == "" {
		return cfg
	}

	p, err := configpatcher.LoadPatch([]byte(patch))
	if err != nil {
		t.Fatal(err)
	}

	out, err := configpatcher.Apply(configpatcher.WithConfig(cfg), []configpatcher.Patch{p})
	if err != nil {
		t.Fatal(err)
	}

	patched, err := out.Config()
	if err != nil {
		t.Fatal(err)
	}

	return patched
}

func TestArguments(t *testing.T) {
	plain := node
	plain.Speed = false

	for name, tc := range map[string]struct {
		render    func(config.Provider, Node) ([]string, error)
		node      Node
		patch     string
		want, not []string
		err       string
	}{
		"API server defaults": {
			render: func(c config.Provider, n Node) ([]string, error) { return APIServerArgs(c, n) }, node: node,
			want: []string{"--advertise-address=10.5.0.10", "--authorization-mode=Node,RBAC", "--enable-priority-and-fairness=false", "--etcd-servers=unix:///run/etcd/client.sock"},
			not:  []string{"--audit-policy-file", "--etcd-cafile"},
		},
		"API server without speed choices": {
			render: func(c config.Provider, n Node) ([]string, error) { return APIServerArgs(c, n) }, node: plain,
			want: []string{"--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile=/system/secrets/kube-apiserver/etcd-client-ca.crt"},
			not:  []string{"--enable-priority-and-fairness"},
		},
		"extra arguments replace and add": {
			render: func(c config.Provider, n Node) ([]string, error) { return APIServerArgs(c, n) }, node: node,
			patch: "cluster: {apiServer: {extraArgs: {enable-priority-and-fairness: \"true\", enable-admission-plugins: AlwaysPullImages}}}",
			want:  []string{"--enable-priority-and-fairness=true", "--enable-admission-plugins=NodeRestriction,AlwaysPullImages"},
		},
		"an audit policy that records is honoured": {
			render: func(c config.Provider, n Node) ([]string, error) { return APIServerArgs(c, n) }, node: node,
			patch: "cluster: {apiServer: {auditPolicy: {apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: RequestResponse}]}}}",
			want:  []string{"--audit-policy-file=/system/config/kube-apiserver/auditpolicy.yaml"},
		},
		"extra arguments must not break the node": {
			render: func(c config.Provider, n Node) ([]string, error) { return APIServerArgs(c, n) }, node: node,
			patch: "cluster: {apiServer: {extraArgs: {etcd-servers: http://elsewhere}}}",
			err:   `cluster.apiServer.extraArgs: extra argument "etcd-servers" cannot be set`,
		},
		"controller manager": {
			render: func(c config.Provider, n Node) ([]string, error) { return ControllerManagerArgs(c, n) }, node: node,
			want: []string{"--leader-elect=false", "--cluster-cidr=10.244.0.0/16", "--allocate-node-cidrs=true"},
		},
		"several control planes elect a leader": {
			render: func(c config.Provider, n Node) ([]string, error) { return SchedulerArgs(c, n) },
			node:   Node{Name: "a", IP: node.IP, Speed: true, ControlPlanes: 3},
			not:    []string{"--leader-elect=false"},
		},
		"etcd": {
			render: func(c config.Provider, n Node) ([]string, error) { return EtcdArgs(c, n) }, node: node,
			want: []string{"--initial-cluster=cp-1=https://10.5.0.10:2380", "--unsafe-no-fsync=true", "--listen-client-urls=https://0.0.0.0:2379,unix:///run/etcd/client.sock"},
		},
		"kubelet": {
			render: func(c config.Provider, n Node) ([]string, error) { return KubeletArgs(c, n) }, node: node,
			patch: "machine: {nodeLabels: {example.com/rack: a, node-role.kubernetes.io/storage: \"\"}, kubelet: {extraArgs: {v: \"4\"}}}",
			want:  []string{"--hostname-override=cp-1", "--node-ip=10.5.0.10", "--node-labels=example.com/rack=a,node.kubernetes.io/exclude-from-external-load-balancers=", "--v=4"},
		},
		"kube-proxy": {
			render: func(c config.Provider, n Node) ([]string, error) { return ProxyArgs(c, n) }, node: node,
			want: []string{"--proxy-mode=nftables", "--cluster-cidr=10.244.0.0/16"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			args, err := tc.render(generated(t, machine.TypeControlPlane, tc.patch), tc.node)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("want an error with %q, got %v", tc.err, err)
				}

				return
			}

			if err != nil {
				t.Fatal(err)
			}

			for _, want := range tc.want {
				if !slices.Contains(args, want) {
					t.Errorf("%s is missing in\n%s", want, strings.Join(args, "\n"))
				}
			}

			for _, not := range tc.not {
				if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, not) }) {
					t.Errorf("%s is in\n%s", not, strings.Join(args, "\n"))
				}
			}
		})
	}
}

func TestKubeletConfiguration(t *testing.T) {
	render := func(kind machine.Type, patch string) map[string]any {
		b, err := KubeletConfiguration(generated(t, kind, patch), node)
		if err != nil {
			t.Fatal(err)
		}

		out := map[string]any{}
		if err := yaml.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}

		return out
	}

	if _, tainted := render(machine.TypeControlPlane, "")["registerWithTaints"]; !tainted {
		t.Error("a control plane registers without its taint")
	}

	if _, tainted := render(machine.TypeControlPlane, "cluster: {allowSchedulingOnControlPlanes: true}")["registerWithTaints"]; tainted {
		t.Error("a control plane that may be scheduled on has a taint")
	}

	worker := render(machine.TypeWorker, "machine: {kubelet: {extraConfig: {maxPods: 50}}}")
	if worker["maxPods"] != 50 || worker["clusterDomain"] != "cluster.local" || worker["clusterDNS"].([]any)[0] != "10.96.0.10" {
		t.Errorf("%v", worker)
	}

	cfg, err := configloader.NewFromBytes([]byte("version: v1alpha1\nmachine: {type: worker, kubelet: {extraConfig: {port: 1}}}\ncluster: {controlPlane: {endpoint: \"https://10.5.0.10:6443\"}}\n"))
	if err != nil {
		t.Fatal(err)
	}

	if _, err := KubeletConfiguration(cfg, node); err == nil || !strings.Contains(err.Error(), `field "port" can't be overridden`) {
		t.Errorf("got %v", err)
	}
}

func TestNodeIP(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("10.5.0.10")}

	for patch, want := range map[string]string{
		"": "192.168.1.5",
		"machine: {kubelet: {nodeIP: {validSubnets: [10.5.0.0/24]}}}":                   "10.5.0.10",
		"machine: {kubelet: {nodeIP: {validSubnets: [10.0.0.0/8, \"!10.5.0.10/32\"]}}}": "",
		"machine: {kubelet: {nodeIP: {validSubnets: [\"!192.168.0.0/16\"]}}}":           "10.5.0.10",
	} {
		got, err := NodeIP(generated(t, machine.TypeWorker, patch), addresses)
		if want == "" && err == nil || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%q: got %v %v, want %q", patch, got, err, want)
		}
	}
}

func TestManifests(t *testing.T) {
	cfg := generated(t, machine.TypeControlPlane, "")

	join, rest, err := Manifests(cfg)
	if err != nil {
		t.Fatal(err)
	}

	if last := join[len(join)-1]; last.text("kind") != "Secret" || last.Path() != "/api/v1/namespaces/kube-system/secrets/bootstrap-token-"+cfg.Cluster().Token().ID() {
		t.Errorf("the bootstrap token is not the last object for joining, but %s", last.Name())
	}

	paths := map[string]bool{}
	for _, o := range rest {
		paths[o.Path()] = true
	}

	for _, want := range []string{
		"/apis/apps/v1/namespaces/kube-system/deployments/coredns", "/api/v1/namespaces/kube-system/services/kube-dns",
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:coredns",
	} {
		if !paths[want] {
			t.Errorf("%s is missing in %v", want, paths)
		}
	}

	_, rest, err = Manifests(generated(t, machine.TypeControlPlane, "cluster: {coreDNS: {disabled: true}}"))
	if err != nil || len(rest) != 2 {
		t.Errorf("with CoreDNS disabled there are %d objects, %v", len(rest), err)
	}
}

func TestSecretsOfAControlPlane(t *testing.T) {
	cfg := generated(t, machine.TypeControlPlane, "")

	files, err := APIServerFiles(cfg, node)
	if err != nil {
		t.Fatal(err)
	}

	more, err := ControllerFiles(cfg, node)
	if err != nil {
		t.Fatal(err)
	}

	etcd, err := EtcdFiles(cfg, node)
	if err != nil {
		t.Fatal(err)
	}

	args, err := APIServerArgs(cfg, Node{IP: node.IP})
	if err != nil {
		t.Fatal(err)
	}

	written := map[string]bool{}
	for _, f := range slices.Concat(files, more, etcd) {
		written[f.Path] = len(f.Content) > 0
	}

	for _, arg := range args {
		_, path, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(path, SecretsDir) && !written[path] {
			t.Errorf("%s names a file that nothing writes", arg)
		}
	}
}
