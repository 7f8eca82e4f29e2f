// Package resources publishes the node's state as Talos resources for the COSI API (Get, List, Watch).
//
// The agent has no controllers: whoever changes something publishes it here. What the kernel knows is read on request
// (ondemand.go).
package resources

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/registry"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"github.com/siderolabs/talos/pkg/machinery/resources/hardware"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	timeres "github.com/siderolabs/talos/pkg/machinery/resources/time"
	"github.com/siderolabs/talos/pkg/machinery/resources/v1alpha1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/console"
)

// historyLength is how many events of one resource type a watcher can go back to.
const historyLength = 256

// Store is the node's resource state.
type Store struct {
	State state.State

	lookMu sync.Mutex
	look   map[resource.Type]func() error
}

// types are the resource types that this node publishes; a read of any other type answers as Talos does for types
// that it does not know. Affiliates and members come from discovery, which the node does not have and the lab switches
// off; static pods are those of the kubelet, and there are none.
var types = []meta.ResourceWithRD{
	&block.DiscoveredVolume{},
	&block.Disk{},
	&block.SystemDisk{},
	&block.VolumeStatus{},
	&cluster.Affiliate{},
	&cluster.Identity{},
	&cluster.Info{},
	&cluster.Member{},
	&config.MachineConfig{},
	&config.MachineType{},
	&etcd.Member{},
	&hardware.SystemInformation{},
	&k8s.Nodename{},
	&k8s.NodeStatus{},
	&k8s.StaticPod{},
	&k8s.StaticPodStatus{},
	&network.AddressStatus{},
	&network.HostnameStatus{},
	&network.LinkStatus{},
	&network.NodeAddress{},
	&network.ResolverStatus{},
	&network.RouteStatus{},
	&network.Status{},
	&network.TimeServerStatus{},
	&runtime.Diagnostic{},
	&runtime.ExtensionServiceConfig{},
	&runtime.ExtensionServiceConfigStatus{},
	&runtime.ExtensionStatus{},
	&runtime.KernelCmdline{},
	&runtime.KernelParamStatus{},
	&runtime.LoadedKernelModule{},
	&runtime.MachineStatus{},
	&runtime.MountStatus{},
	&runtime.Version{},
	&timeres.Status{},
	&v1alpha1.Service{},
}

// New makes a store with Talos' namespaces and the resource types above.
func New(ctx context.Context) (*Store, error) {
	st := state.WrapCore(namespaced.NewState(func(ns resource.Namespace) state.CoreState {
		return inmem.NewStateWithOptions(inmem.WithHistoryMaxCapacity(historyLength), inmem.WithHistoryGap(8))(ns)
	}))

	namespaces := registry.NewNamespaceRegistry(st)
	if err := namespaces.RegisterDefault(ctx); err != nil {
		return nil, fmt.Errorf("register default namespaces: %w", err)
	}

	resources := registry.NewResourceRegistry(st)
	if err := resources.RegisterDefault(ctx); err != nil {
		return nil, fmt.Errorf("register default resource types: %w", err)
	}

	for name, description := range map[string]string{
		v1alpha1.NamespaceName: "Services and machine state.",
		cluster.NamespaceName:  "Cluster configuration and identity.",
		config.NamespaceName:   "Machine configuration.",
		etcd.NamespaceName:     "etcd.",
		hardware.NamespaceName: "Hardware.",
		k8s.NamespaceName:      "Kubernetes.",
		network.NamespaceName:  "Network state.",
	} {
		if err := namespaces.Register(ctx, name, description); err != nil {
			return nil, fmt.Errorf("register namespace %s: %w", name, err)
		}
	}

	for _, r := range types {
		if err := resources.Register(ctx, r); err != nil {
			return nil, fmt.Errorf("register resource type %s: %w", r.ResourceDefinition().Type, err)
		}
	}

	store := &Store{State: st}
	store.watchKernel()

	return store, nil
}

// Put creates a resource or replaces its spec. A failure is a programming error; it is said and does not stop a node.
func Put[T resource.Resource](s *Store, fresh T, fill func(T)) {
	ctx := context.Background()
	fill(fresh)

	err := s.State.Create(ctx, fresh)
	if state.IsConflictError(err) {
		_, err = safe.StateUpdateWithConflicts(ctx, s.State, fresh.Metadata(), func(r T) error {
			fill(r)

			return nil
		})
	}

	if err != nil {
		console.Printf("resource %s was not published: %v", fresh.Metadata(), err)
	}
}

// Drop removes a resource when it exists.
func (s *Store) Drop(md *resource.Metadata) {
	if err := s.State.Destroy(context.Background(), md); err != nil && !state.IsNotFoundError(err) {
		console.Printf("resource %s was not removed: %v", md, err)
	}
}

// Access decides on one access through the API.
//
// Writes are refused for everybody, sensitive resources for all but administrators, and types that do not exist are
// told apart from resources that do not.
func (s *Store) Access(isAdmin func(context.Context) bool) state.FilteringRule {
	return func(ctx context.Context, access state.Access) error {
		if !access.Verb.Readonly() {
			return status.Error(codes.PermissionDenied, "write access is not allowed")
		}

		definition, err := safe.StateGet[*meta.ResourceDefinition](ctx, s.State, resource.NewMetadata(
			meta.NamespaceName, meta.ResourceDefinitionType, strings.ToLower(access.ResourceType), resource.VersionUndefined))
		if state.IsNotFoundError(err) {
			return status.Errorf(codes.PermissionDenied, "resource type %q is not supported", access.ResourceType)
		}

		if err != nil {
			return err
		}

		if definition.TypedSpec().Sensitivity == meta.Sensitive && !isAdmin(ctx) {
			return status.Error(codes.PermissionDenied, "not authorized")
		}

		s.lookAt(definition.TypedSpec().Type)

		return nil
	}
}
