package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clusterapi "github.com/siderolabs/talos/pkg/machinery/api/cluster"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"lab/images/node/internal/kube"
)

// clusterHealth implements the cluster service: talosctl health. The node asks itself, the other nodes and Kubernetes,
// while the call lasts.
type clusterHealth struct {
	clusterapi.UnimplementedClusterServiceServer

	machine *Machine
	access  Access
	// kubernetes is a client with the rights of an administrator; made at the first call.
	kubernetes func() *kube.Client
}

// clusterNodes are the nodes of a cluster, by address.
type clusterNodes struct {
	controlPlanes, workers []string
}

func (n clusterNodes) all() []string { return slices.Concat(n.controlPlanes, n.workers) }

// errSkipped says that a condition does not apply to this cluster.
var errSkipped = errors.New("SKIP")

// condition is one thing to wait for; its name is Talos' (pkg/cluster/check).
type condition struct {
	name  string
	check func(context.Context, clusterNodes) error
}

// checkEvery is how long a condition rests between two looks, as in Talos.
const checkEvery = 5 * time.Second

// HealthCheck waits for one condition after the other, and tells each state once.
func (h *clusterHealth) HealthCheck(request *clusterapi.HealthCheckRequest, stream clusterapi.ClusterService_HealthCheckServer) error {
	if h.access.Forwarder == nil {
		return status.Error(codes.Unimplemented, "cluster health check is only available on control plane nodes")
	}

	ctx, cancel := context.WithTimeout(stream.Context(), request.GetWaitTimeout().AsDuration())
	defer cancel()

	nodes := clusterNodes{request.GetClusterInfo().GetControlPlaneNodes(), request.GetClusterInfo().GetWorkerNodes()}

	if len(nodes.all()) == 0 {
		var err error
		if nodes, err = h.nodesOfKubernetes(ctx); err != nil {
			return err
		}
	}

	tell := func(format string, args ...any) error {
		return stream.Send(&clusterapi.HealthCheckProgress{Message: fmt.Sprintf(format, args...)})
	}

	if err := tell("discovered nodes: %q", nodes.all()); err != nil {
		return err
	}

	for _, c := range h.conditions() {
		if err := h.wait(ctx, c, nodes, tell); err != nil {
			return err
		}
	}

	return nil
}

func (h *clusterHealth) wait(ctx context.Context, c condition, nodes clusterNodes, tell func(string, ...any) error) error {
	said := "..."

	if err := tell("waiting for %s: %s", c.name, said); err != nil {
		return err
	}

	for {
		err := c.check(ctx, nodes)

		now := "OK"
		if err != nil {
			now = err.Error()
		}

		if now != said {
			if err := tell("waiting for %s: %s", c.name, now); err != nil {
				return err
			}

			said = now
		}

		if err == nil || errors.Is(err, errSkipped) {
			return nil
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(checkEvery):
		}
	}
}

// conditions are Talos', without those that look at static pods, and at sizes and diagnostics, which the reference node
// does not have.
func (h *clusterHealth) conditions() []condition {
	return []condition{
		{"etcd to be healthy", func(ctx context.Context, n clusterNodes) error { return h.services(ctx, n.controlPlanes, "etcd") }},
		{"etcd members to be control plane nodes", h.etcdMembers},
		{"apid to be ready", func(ctx context.Context, n clusterNodes) error { return h.services(ctx, n.all(), "apid") }},
		{"kubelet to be healthy", func(ctx context.Context, n clusterNodes) error { return h.services(ctx, n.all(), "kubelet") }},
		{"all k8s nodes to report", h.nodesReport},
		{"all control plane components to be ready", func(ctx context.Context, n clusterNodes) error {
			return h.services(ctx, n.controlPlanes, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
		}},
		{"all k8s nodes to report ready", h.nodesReady},
		{"kube-proxy to report ready", func(ctx context.Context, n clusterNodes) error { return h.services(ctx, n.all(), "kube-proxy") }},
		{"coredns to report ready", h.dnsReady},
		{"all k8s nodes to report schedulable", h.nodesSchedulable},
	}
}

// services asks some nodes for some services, which have to be up. A service that no node has is skipped.
func (h *clusterHealth) services(ctx context.Context, nodes []string, ids ...string) error {
	answer, err := h.access.Forwarder.unary(ctx, &emptypb.Empty{}, machineapi.MachineService_ServiceList_FullMethodName, Target{Nodes: nodes, Many: true})
	if err != nil {
		return err
	}

	var (
		problems []string
		seen     int
	)

	for _, list := range answer.(*machineapi.ServiceListResponse).GetMessages() {
		node := list.GetMetadata().GetHostname()

		if problem := list.GetMetadata().GetError(); problem != "" {
			problems = append(problems, node+": "+problem)
		}

		for _, service := range list.GetServices() {
			if !slices.Contains(ids, service.GetId()) {
				continue
			}

			seen++

			switch {
			case service.GetState() != "Running":
				problems = append(problems, fmt.Sprintf("%s: service %q not in expected state %q: current state [%s]", node, service.GetId(), "Running", service.GetState()))
			case !service.GetHealth().GetHealthy() && !service.GetHealth().GetUnknown():
				problems = append(problems, fmt.Sprintf("%s: service is not healthy: %s", node, service.GetId()))
			}
		}
	}

	switch {
	case len(problems) > 0:
		return errors.New(strings.Join(problems, "; "))
	case seen == 0:
		return errSkipped
	default:
		return nil
	}
}

func (h *clusterHealth) etcdMembers(ctx context.Context, nodes clusterNodes) error {
	answer, err := h.machine.EtcdMemberList(ctx, &machineapi.EtcdMemberListRequest{})
	if err != nil {
		return err
	}

	for _, member := range answer.GetMessages()[0].GetMembers() {
		for _, url := range member.GetPeerUrls() {
			if !slices.ContainsFunc(nodes.controlPlanes, func(node string) bool { return strings.Contains(url, "://"+node+":") }) {
				return fmt.Errorf("the etcd member %s at %s is none of the control plane nodes %q", member.GetHostname(), url, nodes.controlPlanes)
			}
		}
	}

	return nil
}

// node is what health reads of a Node object.
type node struct {
	Metadata struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Unschedulable bool `json:"unschedulable"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

func (n node) address() string {
	for _, a := range n.Status.Addresses {
		if a.Type == "InternalIP" {
			return a.Address
		}
	}

	return ""
}

func (n node) ready() bool {
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}

	return false
}

func (h *clusterHealth) nodes(ctx context.Context) ([]node, error) {
	var list struct {
		Items []node `json:"items"`
	}

	err := h.kubernetes().Get(ctx, "/api/v1/nodes", &list)

	return list.Items, err
}

// nodesOfKubernetes is where Talos takes the nodes from when discovery tells none.
func (h *clusterHealth) nodesOfKubernetes(ctx context.Context) (clusterNodes, error) {
	list, err := h.nodes(ctx)

	var out clusterNodes

	for _, n := range list {
		if _, ok := n.Metadata.Labels[constants.LabelNodeRoleControlPlane]; ok {
			out.controlPlanes = append(out.controlPlanes, n.address())
		} else {
			out.workers = append(out.workers, n.address())
		}
	}

	return out, err
}

func (h *clusterHealth) nodesReport(ctx context.Context, nodes clusterNodes) error {
	list, err := h.nodes(ctx)
	if err != nil {
		return err
	}

	var missing []string

	for _, address := range nodes.all() {
		if !slices.ContainsFunc(list, func(n node) bool { return n.address() == address }) {
			missing = append(missing, address)
		}
	}

	if len(missing) > 0 {
		return fmt.Errorf("can't find expected node with IPs %q", missing)
	}

	return nil
}

func (h *clusterHealth) nodesReady(ctx context.Context, _ clusterNodes) error {
	return h.everyNode(ctx, "some nodes are not ready: %v", node.ready)
}

func (h *clusterHealth) nodesSchedulable(ctx context.Context, _ clusterNodes) error {
	return h.everyNode(ctx, "some nodes are not schedulable: %v", func(n node) bool { return !n.Spec.Unschedulable })
}

func (h *clusterHealth) everyNode(ctx context.Context, problem string, holds func(node) bool) error {
	list, err := h.nodes(ctx)
	if err != nil {
		return err
	}

	var others []string

	for _, n := range list {
		if !holds(n) {
			others = append(others, n.Metadata.Name)
		}
	}

	if len(others) > 0 {
		return fmt.Errorf(problem, others)
	}

	return nil
}

func (h *clusterHealth) dnsReady(ctx context.Context, _ clusterNodes) error {
	var deployments struct {
		Items []struct {
			Status struct {
				Replicas      int `json:"replicas"`
				ReadyReplicas int `json:"readyReplicas"`
			} `json:"status"`
		} `json:"items"`
	}

	err := h.kubernetes().Get(ctx, "/apis/apps/v1/namespaces/kube-system/deployments?labelSelector=k8s-app%3Dkube-dns", &deployments)
	if err != nil {
		return err
	}

	if len(deployments.Items) == 0 {
		return errSkipped
	}

	for _, d := range deployments.Items {
		if d.Status.ReadyReplicas < max(d.Status.Replicas, 1) {
			return fmt.Errorf("%d of %d pods of coredns are ready", d.Status.ReadyReplicas, d.Status.Replicas)
		}
	}

	return nil
}
