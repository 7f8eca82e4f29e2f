package resources

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/typed"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
	"lab/images/node/internal/disk"
	"lab/images/node/internal/kernel"
)

// Some resources describe what the kernel knows anyway. Talos follows the kernel; this node looks when a client asks for
// the type, so that they cost nothing while a cluster forms. A watch tells what is true at its start.

// OnRequest makes look bring all resources of a type up to date before each access of a client.
func (s *Store) OnRequest(kind resource.Type, look func() error) {
	s.lookMu.Lock()
	defer s.lookMu.Unlock()

	if s.look == nil {
		s.look = map[resource.Type]func() error{}
	}

	s.look[kind] = look
}

// lookAt brings a type up to date. Old resources are better than none, so a failure is only said.
func (s *Store) lookAt(kind resource.Type) {
	s.lookMu.Lock()
	defer s.lookMu.Unlock()

	if look, ok := s.look[kind]; ok {
		if err := look(); err != nil {
			console.Printf("resources %s: %v", kind, err)
		}
	}
}

// Replace makes the resources of a type those of the map, by their ids.
func Replace[S typed.DeepCopyable[S], E typed.Extension](
	s *Store, fresh func(resource.Namespace, resource.ID) *typed.Resource[S, E], namespace resource.Namespace, specs map[resource.ID]S,
) error {
	old, err := s.State.List(context.Background(), fresh(namespace, "").Metadata())
	if err != nil {
		return err
	}

	for _, r := range old.Items {
		if _, ok := specs[r.Metadata().ID()]; !ok {
			s.Drop(r.Metadata())
		}
	}

	for id, spec := range specs {
		Put(s, fresh(namespace, id), func(r *typed.Resource[S, E]) { *r.TypedSpec() = spec })
	}

	return nil
}

// watchKernel registers what is read from the kernel.
func (s *Store) watchKernel() {
	s.OnRequest(network.RouteStatusType, s.routes)
	s.OnRequest(block.DiskType, s.disks)
	s.OnRequest(block.DiscoveredVolumeType, s.discoveredVolumes)
	s.OnRequest(runtime.LoadedKernelModuleType, s.kernelModules)
}

func (s *Store) routes() error {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}

	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}

	names := map[int]string{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}

	specs := map[resource.ID]network.RouteStatusSpec{}

	for _, route := range list {
		spec := network.RouteStatusSpec{
			Family:       nethelpers.Family(route.Family),
			Source:       address(route.Src),
			Gateway:      address(route.Gw),
			OutLinkIndex: uint32(route.LinkIndex),
			OutLinkName:  names[route.LinkIndex],
			Table:        nethelpers.RoutingTable(route.Table),
			Priority:     uint32(route.Priority),
			Scope:        nethelpers.Scope(route.Scope),
			Type:         nethelpers.RouteType(route.Type),
			Flags:        nethelpers.RouteFlags(route.Flags),
			Protocol:     nethelpers.RouteProtocol(route.Protocol),
			MTU:          uint32(route.MTU),
		}

		// A default route has no destination.
		if route.Dst != nil {
			if ones, _ := route.Dst.Mask.Size(); ones > 0 {
				spec.Destination = netip.PrefixFrom(address(route.Dst.IP), ones)
			}
		}

		id := network.RouteID(spec.Table, spec.Family, spec.Destination, spec.Gateway, spec.Priority, spec.OutLinkName)
		specs[id] = spec
	}

	return Replace(s, network.NewRouteStatus, network.NamespaceName, specs)
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)

	return a.Unmap()
}

func (s *Store) disks() error {
	devices, err := disk.Survey()
	if err != nil {
		return err
	}

	specs := map[resource.ID]block.DiskSpec{}

	for _, d := range devices {
		if d.Parent != "" {
			continue
		}

		spec := block.DiskSpec{
			DevPath: "/dev/" + d.Name, IOSize: d.IOSize, SectorSize: d.SectorSize, Readonly: d.Readonly, Rotational: d.Rotational,
			Model: d.Model, Serial: d.Serial, Modalias: d.Modalias, BusPath: d.BusPath, Transport: d.Transport,
			SubSystem: "/sys/class/block",
		}
		spec.SetSize(d.Size)
		specs[d.Name] = spec
	}

	return Replace(s, block.NewDisk, block.NamespaceName, specs)
}

func (s *Store) discoveredVolumes() error {
	devices, err := disk.Survey()
	if err != nil {
		return err
	}

	specs := map[resource.ID]block.DiscoveredVolumeSpec{}

	for _, d := range devices {
		spec := block.DiscoveredVolumeSpec{
			DevPath: "/dev/" + d.Name, Type: "disk", Offset: d.Offset, SectorSize: d.SectorSize, IOSize: d.IOSize,
			Name: d.Content, UUID: d.UUID, Label: d.Label,
		}
		spec.SetSize(d.Size)

		if d.Parent != "" {
			spec.Type, spec.Parent, spec.ParentDevPath = "partition", d.Parent, "/dev/"+d.Parent
			spec.PartitionUUID, spec.PartitionType = d.Partition.ID.String(), d.Partition.Type.String()
			spec.PartitionLabel, spec.PartitionIndex = d.Partition.Label, uint(d.Partition.Number)
		}

		specs[d.Name] = spec
	}

	return Replace(s, block.NewDiscoveredVolume, block.NamespaceName, specs)
}

func (s *Store) kernelModules() error {
	content, err := os.ReadFile("/proc/modules")
	if err != nil {
		return err
	}

	return Replace(s, runtime.NewLoadedKernelModule, runtime.NamespaceName, modules(string(content)))
}

// modules reads the kernel's list: name, size, references, users, state and address of each (proc_modules(5)).
func modules(list string) map[resource.ID]runtime.LoadedKernelModuleSpec {
	specs := map[resource.ID]runtime.LoadedKernelModuleSpec{}

	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}

		size, _ := strconv.Atoi(fields[1])
		references, _ := strconv.Atoi(fields[2])
		spec := runtime.LoadedKernelModuleSpec{Size: size, ReferenceCount: references, State: fields[4], Address: fields[5]}

		if fields[3] != "-" {
			spec.Dependencies = strings.Split(strings.TrimSuffix(fields[3], ","), ",")
		}

		specs[fields[0]] = spec
	}

	return specs
}

// KernelParams publishes, on request, the current values of the settings that keys names now. The values before the node
// set them are not known.
func (s *Store) KernelParams(keys func() []string) {
	s.OnRequest(runtime.KernelParamStatusType, func() error {
		specs := map[resource.ID]runtime.KernelParamStatusSpec{}

		for _, key := range keys() {
			path := kernel.SysctlPath(key)
			content, err := os.ReadFile("/proc/sys/" + path)
			specs["proc.sys."+strings.ReplaceAll(path, "/", ".")] = runtime.KernelParamStatusSpec{
				Current: strings.TrimSpace(string(content)), Unsupported: err != nil,
			}
		}

		return Replace(s, runtime.NewKernelParamStatus, runtime.NamespaceName, specs)
	})
}

// EtcdMember publishes, on request, the id of the node's own member of etcd.
func (s *Store) EtcdMember(own func() (uint64, error)) {
	s.OnRequest(etcd.MemberType, func() error {
		id, err := own()
		if err != nil {
			return err
		}

		return Replace(s, etcd.NewMember, etcd.NamespaceName, map[resource.ID]etcd.MemberSpec{
			etcd.LocalMemberID: {MemberID: etcd.FormatMemberID(id)},
		})
	})
}
