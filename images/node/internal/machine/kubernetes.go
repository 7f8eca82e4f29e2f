package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"

	"lab/images/node/internal/console"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/podnet"
	"lab/images/node/internal/process"
	"lab/images/node/internal/supervise"
)

// component runs one Kubernetes program of the image.
func (m *Machine) component(name, cgroup string, env map[string]string, args func(config.Config, kube.Node) ([]string, error)) func(context.Context) (process.Command, error) {
	return func(context.Context) (process.Command, error) {
		rendered, err := args(m.config(), m.facts())
		if err != nil {
			return process.Command{}, err
		}

		all := maps.Clone(m.config().Machine().Env())
		if all == nil {
			all = map[string]string{}
		}

		maps.Copy(all, env)

		return process.Command{
			Path:   kube.BinDir + name,
			Args:   rendered,
			Env:    kube.ComponentEnv(m.facts().Speed, kube.MemoryLimits[name], all),
			Cgroup: cgroup,
		}, nil
	}
}

// kubelet waits for the API server besides its runtime, which Talos' does not. A kubelet that finds no API server backs
// off to 32 seconds between attempts to get its certificate (client-go's certificate manager), and until its node is
// Ready it looks around ten times a second: under emulation both hurt. It loses nothing by waiting, because its
// certificate has to wait for the controller manager, which starts meanwhile.
func (m *Machine) kubelet() supervise.Service {
	return supervise.Service{
		ID:         "kubelet",
		DependsOn:  []string{"cri"},
		Conditions: []supervise.Condition{m.timeSynced, m.kubernetes},
		Prepare: func(context.Context) error {
			files, err := kube.KubeletFiles(m.config(), m.facts())
			if err != nil {
				return err
			}

			return kube.WriteFiles(files)
		},
		Command: m.component("kubelet", "/podruntime/kubelet", nil, kube.KubeletArgs),
		Health:  healthCheck(httpOK("http://127.0.0.1:10248/healthz")),
	}
}

// apiUpstream is where this node reaches the API: a control plane asks its own API server, a worker the endpoint.
func (m *Machine) apiUpstream() string {
	cluster := m.config().Cluster()
	if m.config().Machine().Type().IsControlPlane() {
		return fmt.Sprintf("127.0.0.1:%d", cluster.LocalAPIServerPort())
	}

	if cluster.Endpoint().Port() == "" {
		return cluster.Endpoint().Host + ":443"
	}

	return cluster.Endpoint().Host
}

// etcd waits for the Bootstrap call unless it has data from an earlier boot.
func (m *Machine) etcd() supervise.Service {
	return supervise.Service{
		ID:         "etcd",
		Conditions: []supervise.Condition{m.timeSynced},
		Prepare: func(ctx context.Context) error {
			files, err := kube.EtcdFiles(m.config(), m.facts())
			if err != nil {
				return err
			}

			if err := kube.WriteFiles(files); err != nil {
				return err
			}

			if err := kube.PrepareEtcdSocket(); err != nil {
				return err
			}

			if !m.bootstrapped.IsOpen() {
				console.Printf("etcd is waiting to join the cluster, if this node is the first node of the cluster, please run `talosctl bootstrap` against one of the following IPs: %v (joining an existing etcd cluster is not part of the reference node)", m.facts().Addresses)
			}

			return m.bootstrapped.Wait(ctx)
		},
		Command: m.component("etcd", "/podruntime/etcd", nil, kube.EtcdArgs),
		Health:  healthCheck(dial("tcp", "127.0.0.1:2379")),
	}
}

// controlPlane are the components that Talos runs as static pods. Here they are processes of the host: the same
// programs with the same flags, without the images and the pod machinery around them.
func (m *Machine) controlPlane(context.Context) []supervise.Service {
	// Each look at /readyz runs thirty checks in the API server, so it is asked once a second only.
	apiHealth := healthCheck(m.apiServerHealth())
	apiHealth.Initial = time.Second

	services := []supervise.Service{{
		ID:         "kube-apiserver",
		Background: true,
		// As soon as etcd listens and not before: each of its hundred connections would fail, log and back off.
		DependsOn:  []string{"etcd"},
		Conditions: []supervise.Condition{m.timeSynced, m.bootstrapped},
		StopGrace:  2 * time.Second, // it waits for its watchers, which go down with it
		Prepare: func(context.Context) error {
			files, err := kube.APIServerFiles(m.config(), m.facts())
			if err != nil {
				return err
			}

			return kube.WriteFiles(files)
		},
		Command: m.component("kube-apiserver", "/podruntime/kube-apiserver", m.config().Cluster().APIServer().Env(), kube.APIServerArgs),
		Health:  apiHealth,
	}}

	prepare := func(context.Context) error {
		files, err := kube.ControllerFiles(m.config(), m.facts())
		if err != nil {
			return err
		}

		return kube.WriteFiles(files)
	}

	controlPlane := m.config().Machine().Controlplane()

	if !controlPlane.ControllerManager().Disabled() {
		services = append(services, supervise.Service{
			ID:         "kube-controller-manager",
			Background: true,
			// It takes about as long to start as the API server takes from here to being ready. Should it be faster by
			// more than the ten seconds that it waits for that, it ends and is started again.
			Conditions: []supervise.Condition{m.bootstrapped, m.joinable},
			Prepare:    prepare,
			Command: m.component("kube-controller-manager", "/podruntime/kube-controller-manager",
				m.config().Cluster().ControllerManager().Env(), kube.ControllerManagerArgs),
			Health: healthCheck(dial("tcp", "127.0.0.1:10257")),
		})
	}

	if !controlPlane.Scheduler().Disabled() {
		services = append(services, supervise.Service{
			ID:         "kube-scheduler",
			Background: true,
			// There is nothing to schedule before there is a node.
			Conditions: []supervise.Condition{m.bootstrapped, m.settled},
			Prepare:    prepare,
			Command:    m.component("kube-scheduler", "/podruntime/kube-scheduler", m.config().Cluster().Scheduler().Env(), kube.SchedulerArgs),
			Health:     healthCheck(dial("tcp", "127.0.0.1:10259")),
		})
	}

	return services
}

// apiServerHealth asks the local API server for /readyz as the cluster's administrator.
func (m *Machine) apiServerHealth() func(context.Context) error {
	client := m.adminClient()

	return func(ctx context.Context) error {
		if err := client.Ready(ctx); err != nil {
			return errors.New(kube.ReadyProblem(err))
		}

		return nil
	}
}

func (m *Machine) adminClient() *kube.Client {
	cfg := m.config()

	return kube.NewCertClient(fmt.Sprintf("https://127.0.0.1:%d", cfg.Cluster().LocalAPIServerPort()), kube.AcceptedCAs(cfg),
		kube.SecretsDir+"admin.crt", kube.SecretsDir+"admin.key")
}

func (m *Machine) kubeProxy() supervise.Service {
	return supervise.Service{
		ID:         "kube-proxy",
		Background: true,
		DependsOn:  []string{"kubelet"},
		// After the node is Ready: until then nothing on it uses services, and the kubelet needs the CPU.
		Conditions: []supervise.Condition{m.settled},
		Command:    m.component("kube-proxy", "/podruntime/kube-proxy", nil, kube.ProxyArgs),
		Health:     healthCheck(httpOK("http://127.0.0.1:10256/livez")),
	}
}

// settleTime is how long kube-proxy, the scheduler and the cluster's add-ons wait at most for the node to be Ready, counted from when
// the API server is.
const settleTime = time.Minute

// startKubernetesClients starts the agent's own part: the local endpoint of the API, the watch of this node with the
// pod routes, and on a control plane the bootstrap manifests.
func (m *Machine) startKubernetesClients(ctx context.Context) {
	cfg, node := m.config(), m.facts()

	go func() {
		if err := m.issueAPICertificate(ctx); err != nil {
			console.Printf("API certificate: %v", err)
		}
	}()

	m.startKubePrism(ctx)

	network := &podnet.Network{
		Client:   kube.NewCertClient(node.APIServer, kube.AcceptedCAs(cfg), kube.KubeletClientCert, kube.KubeletClientCert),
		Reaper:   m.reaper,
		NodeName: node.Name,
		NodeIP:   node.IP,
		PodCIDRs: cfg.Cluster().Network().PodCIDRs(),
		OnStatus: m.nodeChanged(ctx),
	}

	switch name := cfg.Cluster().Network().CNI().Name(); name {
	case "none":
	case "custom":
		console.Printf("cluster.network.cni: name custom (manifests from URLs) is not part of the reference node: install the CNI yourself, as with none")
	default:
		network.CNI = true
	}

	if !network.CNI {
		// A CNI from manifests comes by way of the scheduler, so nothing waits for the node to be Ready.
		told := network.OnStatus
		network.OnStatus = func(status k8s.NodeStatusSpec) {
			m.settled.Open()
			told(status)
		}
	}

	go func() {
		// The kubelet starts only with the right time too, so that all its reports of this boot are later. Its times
		// have whole seconds.
		if err := m.timeSynced.Wait(ctx); err != nil {
			return
		}

		network.Since = time.Now().Truncate(time.Second)

		// Before there is a certificate every request would be refused.
		if err := m.kubernetes.Wait(ctx); err != nil {
			return
		}

		// A node that does not become Ready soon gets its proxy and add-ons nevertheless.
		time.AfterFunc(settleTime, m.settled.Open)

		if err := supervise.PathExists(kube.KubeletClientCert).Wait(ctx); err != nil {
			return
		}

		console.Milestone("kubelet-certificate")

		if err := network.Run(ctx); err != nil {
			console.Printf("pod network: %v", err)
		}
	}()

	if cfg.Machine().Type().IsControlPlane() {
		if entries, err := os.ReadDir(kube.EtcdDataDir); err == nil && len(entries) > 0 {
			m.bootstrapped.Open()
		}

		go m.applyManifests(ctx)
	}
}

func (m *Machine) startKubePrism(ctx context.Context) {
	cfg := m.config()
	token := cfg.Cluster().Token()

	upstream := m.apiUpstream()
	prism := &podnet.KubePrism{
		Upstream: upstream,
		Probe:    kube.NewTokenClient("https://"+upstream, kube.AcceptedCAs(cfg), token.ID()+"."+token.Secret()),
		Ready:    m.kubernetes,
		Interval: 500 * time.Millisecond,
	}

	settings := cfg.Machine().Features().KubePrism()
	if !settings.Enabled() {
		go prism.WatchReady(ctx)

		return
	}

	prism.Listen = fmt.Sprintf("127.0.0.1:%d", settings.Port())

	go func() {
		if err := prism.Run(ctx); err != nil {
			console.Printf("KubePrism: %v", err)
		}
	}()
}

// applyManifests applies the bootstrap manifests once the API server answers; at every boot, as Talos does.
func (m *Machine) applyManifests(ctx context.Context) {
	if m.bootstrapped.Wait(ctx) != nil {
		return
	}

	join, rest, err := kube.Manifests(m.config())
	if err != nil {
		console.Printf("bootstrap manifests: %v", err)

		return
	}

	client := m.adminClient()

	err = supervise.Poll(ctx, 250*time.Millisecond, func() bool { return client.Get(ctx, "/version", nil) == nil })
	if err != nil {
		return
	}

	console.Milestone("apiserver-answers")

	if err := kube.Apply(ctx, client, join); err != nil {
		console.Printf("bootstrap manifests: %v", err)
	}

	console.Milestone("join-manifests-applied")
	m.joinable.Open()

	if m.settled.Wait(ctx) != nil {
		return
	}

	if err := kube.Apply(ctx, client, rest); err != nil {
		console.Printf("bootstrap manifests: %v", err)
	}

	console.Milestone("manifests-applied")
}

// nodeChanged publishes the status of this node and, on a control plane, gives it the labels that a kubelet may not
// give itself.
func (m *Machine) nodeChanged(ctx context.Context) func(k8s.NodeStatusSpec) {
	cfg := m.config()
	labels := map[string]string{}

	if cfg.Machine().Type().IsControlPlane() {
		labels["node-role.kubernetes.io/control-plane"] = ""

		for key, value := range cfg.Machine().NodeLabels() {
			if kube.RestrictedLabel(key) {
				labels[key] = value
			}
		}
	}

	return func(status k8s.NodeStatusSpec) {
		m.nodeStatus(status)

		missing := slices.ContainsFunc(slices.Collect(maps.Keys(labels)), func(key string) bool {
			value, ok := status.Labels[key]

			return !ok || value != labels[key]
		})
		if !missing {
			return
		}

		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
		if err == nil {
			err = m.adminClient().Do(ctx, http.MethodPatch, "/api/v1/nodes/"+status.Nodename, "application/merge-patch+json", patch, nil)
		}

		if err != nil {
			console.Printf("labels of the control plane node: %v", err)
		}
	}
}
