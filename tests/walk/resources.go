package main

import (
	"context"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/client"
)

// kinds are the resources of the walk, by the name that talosctl get has for them. With some of them, a cluster of the lab
// has none: discovery is off, and a worker has no static pods.
var kinds = []struct {
	name     string
	mayLack  bool
	onWorker bool
}{
	{name: "members", mayLack: true},
	{name: "affiliates", mayLack: true},
	{name: "machinestatus"},
	{name: "machineconfig"},
	{name: "nodename"},
	{name: "hostname"},
	{name: "addresses"},
	{name: "routes"},
	{name: "links"},
	{name: "resolvers"},
	{name: "timeservers"},
	{name: "services"},
	{name: "staticpods", mayLack: true, onWorker: true},
	{name: "staticpodstatus"},
	{name: "kubeletspec"},
	{name: "manifests"},
	{name: "nodestatus"},
	{name: "disks"},
	{name: "systemdisk"},
	{name: "discoveredvolumes"},
	{name: "volumestatus"},
	{name: "mounts"},
	{name: "extensions"},
	{name: "kernelcmdline"},
	{name: "kernelparamstatus"},
	{name: "loadedkernelmodules"},
	{name: "etcdmembers"},
	{name: "securitystate"},
	{name: "version"},
	{name: "info"},
}

func resources() []call {
	list := make([]call, 0, len(kinds))

	for _, kind := range kinds {
		list = append(list, call{"get " + kind.name, func(ctx context.Context, w walk) error {
			node := w.controlPlane
			if kind.onWorker {
				node = w.worker
			}

			ctx = client.WithNode(ctx, node)

			var namespace resource.Namespace

			definition, err := w.ResolveResourceKind(ctx, &namespace, kind.name)
			if err != nil {
				return err
			}

			found, err := w.COSI.List(ctx, resource.NewMetadata(namespace, definition.TypedSpec().Type, "", resource.VersionUndefined))

			return filled(found.Items, err, func(items []resource.Resource) bool { return kind.mayLack || len(items) > 0 })
		}})
	}

	return list
}
