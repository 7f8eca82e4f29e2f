// Package podnet connects pods across nodes: a CNI bridge on this node and one route for each other node, through
// that node's own address. It is what flannel's host-gw backend does, in the agent, because a separate daemon would
// cost an emulated node more memory and start-up time than the work is worth.
//
// Source addresses of pods are kept between pods; what leaves the pod network is masqueraded.
package podnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/vishvananda/netlink"

	"lab/images/node/internal/console"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/process"
)

// ConfList is the CNI configuration; kubelet reports the node Ready once containerd has found it.
const ConfList = "/etc/cni/net.d/10-reference-node.conflist"

// routeProtocol marks the routes of this package (rtnetlink protocol numbers above 100 are free for programs).
const routeProtocol = 141

// Network watches the cluster's nodes and keeps this node's part of the pod network.
type Network struct {
	Client   *kube.Client
	Reaper   *process.Reaper
	NodeName string
	NodeIP   netip.Addr
	// PodCIDRs are the pod networks of the cluster; what leaves them is masqueraded. None: nothing is.
	PodCIDRs []string
	// CNI is false when the machine config says cni: none; then only the status of the node is watched.
	CNI bool
	// Since is when this boot of the node began; older reports of its kubelet do not count.
	Since time.Time
	// OnStatus is told what the cluster says about this node.
	OnStatus func(k8s.NodeStatusSpec)

	wrote  bool
	routes map[string]route
}

type route struct {
	destination netip.Prefix
	gateway     netip.Addr
}

// node is the part of a Kubernetes Node that matters here.
type node struct {
	Metadata struct {
		Name            string            `json:"name"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		PodCIDRs      []netip.Prefix `json:"podCIDRs"`
		Unschedulable bool           `json:"unschedulable"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
		Conditions []struct {
			Type          string    `json:"type"`
			Status        string    `json:"status"`
			LastHeartbeat time.Time `json:"lastHeartbeatTime"`
		} `json:"conditions"`
	} `json:"status"`
}

func (n node) internalIP() (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if a.Type == "InternalIP" {
			ip, err := netip.ParseAddr(a.Address)

			return ip, err == nil
		}
	}

	return netip.Addr{}, false
}

// ready tells whether the node is Ready by a report of its kubelet that is not older than since: after a power cycle
// the cluster shows the state from before until the kubelet reports again.
func (n node) ready(since time.Time) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && !c.LastHeartbeat.Before(since)
		}
	}

	return false
}

// Run watches until the context ends. The API server comes and goes; each time the watch starts anew.
func (w *Network) Run(ctx context.Context) error {
	w.routes = map[string]route{}

	if w.CNI && len(w.PodCIDRs) > 0 {
		if err := w.masquerade(ctx); err != nil {
			return err
		}
	}

	for ctx.Err() == nil {
		err := w.watch(ctx)
		if ctx.Err() == nil && !errors.Is(err, errExpired) && !kube.IsStatus(err, 401) && !kube.IsStatus(err, 403) {
			console.Printf("watch of nodes: %v", err)
		}

		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}

	return nil
}

var errExpired = errors.New("the watch expired")

func (w *Network) watch(ctx context.Context) error {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []node `json:"items"`
	}

	if err := w.Client.Get(ctx, "/api/v1/nodes", &list); err != nil {
		return err
	}

	known := map[string]bool{}

	for _, n := range list.Items {
		known[n.Metadata.Name] = true
		if err := w.changed(n); err != nil {
			return err
		}
	}

	for name := range w.routes {
		if !known[name] {
			w.gone(name)
		}
	}

	path := "/api/v1/nodes?watch=true&allowWatchBookmarks=true&resourceVersion=" + list.Metadata.ResourceVersion

	err := w.Client.Watch(ctx, path, func(event kube.WatchEvent) error {
		var n node
		if err := json.Unmarshal(event.Object, &n); err != nil {
			return err
		}

		switch event.Type {
		case "ADDED", "MODIFIED":
			return w.changed(n)
		case "DELETED":
			w.gone(n.Metadata.Name)
		}

		return nil
	})
	if err == nil {
		err = errExpired
	}

	return err
}

func (w *Network) changed(n node) error {
	if n.Metadata.Name == w.NodeName {
		defer w.OnStatus(k8s.NodeStatusSpec{
			Nodename: n.Metadata.Name, NodeReady: n.ready(w.Since), Unschedulable: n.Spec.Unschedulable,
			Labels: n.Metadata.Labels, Annotations: n.Metadata.Annotations, PodCIDRs: n.Spec.PodCIDRs,
		})

		if w.CNI && !w.wrote && len(n.Spec.PodCIDRs) > 0 {
			if err := WriteConfList(ConfList, n.Spec.PodCIDRs); err != nil {
				return err
			}

			w.wrote = true

			console.Milestone("cni-configured")
		}

		return nil
	}

	gateway, ok := n.internalIP()
	if !w.CNI || !ok || len(n.Spec.PodCIDRs) == 0 {
		return nil
	}

	for _, prefix := range n.Spec.PodCIDRs {
		if prefix.Addr().Is4() != gateway.Is4() {
			continue
		}

		want := route{prefix, gateway}
		if w.routes[n.Metadata.Name] == want {
			continue
		}

		if err := netlink.RouteReplace(want.netlink()); err != nil {
			return fmt.Errorf("route to the pods of %s (%s via %s): %w", n.Metadata.Name, prefix, gateway, err)
		}

		w.routes[n.Metadata.Name] = want
	}

	return nil
}

func (w *Network) gone(name string) {
	if old, ok := w.routes[name]; ok {
		_ = netlink.RouteDel(old.netlink()) // gone already when the interface was down
		delete(w.routes, name)
	}
}

func (r route) netlink() *netlink.Route {
	return &netlink.Route{
		Dst:      &net.IPNet{IP: r.destination.Addr().AsSlice(), Mask: net.CIDRMask(r.destination.Bits(), r.destination.Addr().BitLen())},
		Gw:       r.gateway.AsSlice(),
		Protocol: routeProtocol,
	}
}

// masquerade gives traffic from pods to the outside the node's address. The table is replaced as a whole.
func (w *Network) masquerade(ctx context.Context) error {
	script := "add table inet reference_node_pods\ndelete table inet reference_node_pods\ntable inet reference_node_pods {\n  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n"

	for _, cidr := range w.PodCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return fmt.Errorf("cluster.network.podSubnets: %w", err)
		}

		family, multicast := "ip", "224.0.0.0/4"
		if prefix.Addr().Is6() {
			family, multicast = "ip6", "ff00::/8"
		}

		script += fmt.Sprintf("    %[1]s saddr %[2]s %[1]s daddr != { %[2]s, %[3]s } masquerade\n", family, prefix, multicast)
	}

	script += "  }\n}\n"

	path := "/run/reference-node-pods.nft"
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		return err
	}

	_, err := w.Reaper.Run(ctx, "/usr/sbin/nft", "-f", path)

	return err
}

// WriteConfList writes the CNI configuration for the address ranges that the cluster gave to this node.
func WriteConfList(path string, ranges []netip.Prefix) error {
	content, err := RenderConfList(ranges)
	if err != nil {
		return err
	}

	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}

	// Renamed into place: containerd reads the directory as soon as it changes.
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}

	return os.Rename(path+".new", path)
}

// RenderConfList renders the CNI configuration.
func RenderConfList(ranges []netip.Prefix) ([]byte, error) {
	var ipam, routes []any

	for _, r := range ranges {
		ipam = append(ipam, []any{map[string]any{"subnet": r.String()}})

		if r.Addr().Is4() {
			routes = append(routes, map[string]any{"dst": "0.0.0.0/0"})
		} else {
			routes = append(routes, map[string]any{"dst": "::/0"})
		}
	}

	return json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       "reference-node",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": false, "hairpinMode": true, "ipMasq": false,
				"ipam": map[string]any{"type": "host-local", "ranges": ipam, "routes": routes, "dataDir": "/run/cni/ipam"},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		},
	}, "", "  ")
}
