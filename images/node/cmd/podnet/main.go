// Command podnet is the reference node's pod network as a CNI that is installed from manifests: a DaemonSet on clusters
// whose machine configs say `cni: none`. It needs the host's network, /etc/cni/net.d, and the CNI plugins bridge,
// host-local and portmap on the node. Unlike the agent's own network it does not masquerade what leaves the pods.
package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"

	"lab/images/node/internal/kube"
	"lab/images/node/internal/podnet"
)

// account is where kubelet mounts a pod's service account (Kubernetes documentation, "Accessing the API from a Pod").
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "podnet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	address, err := netip.ParseAddr(os.Getenv("NODE_IP"))
	if err != nil {
		return fmt.Errorf("NODE_IP: %w", err)
	}

	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}

	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}

	network := &podnet.Network{
		Client:   kube.NewTokenClient(os.Getenv("KUBERNETES_API"), ca, string(token)),
		NodeName: os.Getenv("NODE_NAME"),
		NodeIP:   address,
		CNI:      true,
		OnStatus: func(k8s.NodeStatusSpec) {},
	}

	return network.Run(ctx)
}
