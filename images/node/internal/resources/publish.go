package resources

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	configres "github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/cri"
	"github.com/siderolabs/talos/pkg/machinery/resources/hardware"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	timeres "github.com/siderolabs/talos/pkg/machinery/resources/time"
	"github.com/siderolabs/talos/pkg/machinery/resources/v1alpha1"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
	"lab/images/node/internal/gpt"
	"lab/images/node/internal/supervise"
)

// KernelCmdline publishes the kernel arguments.
func (s *Store) KernelCmdline(cmdline string) {
	Put(s, runtime.NewKernelCmdline(), func(r *runtime.KernelCmdline) { r.TypedSpec().Cmdline = cmdline })
}

// Version publishes the release whose API the node speaks.
func (s *Store) Version(tag string) {
	Put(s, runtime.NewVersion(), func(r *runtime.Version) { r.TypedSpec().Name, r.TypedSpec().Version = "reference node", tag })
}

// MachineStatus publishes the stage of the machine and what keeps it from being ready.
func (s *Store) MachineStatus(stage runtime.MachineStage, unmet []runtime.UnmetCondition) {
	Put(s, runtime.NewMachineStatus(), func(r *runtime.MachineStatus) {
		r.TypedSpec().Stage = stage
		r.TypedSpec().Status.Ready = len(unmet) == 0
		r.TypedSpec().Status.UnmetConditions = unmet
	})
}

// Service publishes a running service and removes one that is not running, as Talos does.
func (s *Store) Service(status supervise.Status) {
	fresh := v1alpha1.NewService(status.ID)

	if status.State != supervise.StateRunning {
		s.Drop(fresh.Metadata())

		return
	}

	Put(s, fresh, func(r *v1alpha1.Service) {
		r.TypedSpec().Running = true
		r.TypedSpec().Unknown = !status.HasHealth || status.Health.Unknown
		r.TypedSpec().Healthy = status.HasHealth && status.Health.Healthy
	})
}

// Hostname publishes the name of the node.
func (s *Store) Hostname(hostname, domain string) {
	Put(s, network.NewHostnameStatus(network.NamespaceName, network.HostnameID), func(r *network.HostnameStatus) {
		r.TypedSpec().Hostname, r.TypedSpec().Domainname = hostname, domain
	})
}

// NetworkReady publishes that the network is up.
func (s *Store) NetworkReady(etcFiles bool) {
	Put(s, network.NewStatus(network.NamespaceName, network.StatusID), func(r *network.Status) {
		*r.TypedSpec() = network.StatusSpec{AddressReady: true, ConnectivityReady: true, HostnameReady: true, EtcFilesReady: etcFiles}
	})
}

// NodeAddresses publishes the addresses of the node.
func (s *Store) NodeAddresses(addresses []netip.Prefix) {
	for _, id := range []string{network.NodeAddressDefaultID, network.NodeAddressCurrentID, network.NodeAddressRoutedID} {
		Put(s, network.NewNodeAddress(network.NamespaceName, id), func(r *network.NodeAddress) {
			r.TypedSpec().Addresses = addresses
			if id == network.NodeAddressDefaultID && len(addresses) > 0 {
				r.TypedSpec().Addresses = addresses[:1]
			}
		})
	}
}

// Servers publishes the name servers and the time servers that the node uses.
func (s *Store) Servers(dns []netip.Addr, domain string, time []string) {
	Put(s, network.NewResolverStatus(network.NamespaceName, network.ResolverID), func(r *network.ResolverStatus) {
		r.TypedSpec().DNSServers = dns

		if domain != "" {
			r.TypedSpec().SearchDomains = []string{domain}
		}
	})
	Put(s, network.NewTimeServerStatus(network.NamespaceName, network.TimeServerID), func(r *network.TimeServerStatus) {
		r.TypedSpec().NTPServers = time
	})
}

// Time publishes whether the clock is right.
func (s *Store) Time(synced, disabled bool) {
	Put(s, timeres.NewStatus(), func(r *timeres.Status) {
		r.TypedSpec().Synced, r.TypedSpec().SyncDisabled = synced, disabled
	})
}

// MachineConfig publishes the machine config (a sensitive resource) and the machine type.
func (s *Store) MachineConfig(provider config.Provider) {
	for _, id := range []string{configres.ActiveID, configres.PersistentID} {
		r := configres.NewMachineConfigWithID(provider, id)
		s.Drop(r.Metadata())

		if err := s.State.Create(context.Background(), r); err != nil {
			console.Printf("machine config was not published: %v", err)
		}
	}

	Put(s, cluster.NewInfo(), func(r *cluster.Info) {
		r.TypedSpec().ClusterID, r.TypedSpec().ClusterName = provider.Cluster().ID(), provider.Cluster().Name()
	})
	Put(s, configres.NewMachineType(), func(r *configres.MachineType) { r.SetMachineType(provider.Machine().Type()) })
}

// Identity publishes the node's identity, which is kept on STATE.
func (s *Store) Identity(id, uuid string) {
	Put(s, cluster.NewIdentity(cluster.NamespaceName, cluster.LocalIdentity), func(r *cluster.Identity) { r.TypedSpec().NodeID = id })
	Put(s, hardware.NewSystemInformation(hardware.SystemInformationID), func(r *hardware.SystemInformation) {
		r.TypedSpec().Manufacturer = "QEMU"
		r.TypedSpec().ProductName = "reference node"
		r.TypedSpec().UUID = uuid
	})
}

// Nodename publishes the name that the node registers with.
func (s *Store) Nodename(name string) {
	Put(s, k8s.NewNodename(k8s.NamespaceName, k8s.NodenameID), func(r *k8s.Nodename) {
		r.TypedSpec().Nodename, r.TypedSpec().HostnameVersion = name, "1"
	})
}

// NodeStatus publishes what the cluster says about this node.
func (s *Store) NodeStatus(spec k8s.NodeStatusSpec) {
	Put(s, k8s.NewNodeStatus(k8s.NamespaceName, spec.Nodename), func(r *k8s.NodeStatus) { *r.TypedSpec() = spec })
}

// Mount publishes a mounted partition.
func (s *Store) Mount(label, source, target string) {
	Put(s, runtime.NewMountStatus(v1alpha1.NamespaceName, label), func(r *runtime.MountStatus) {
		r.TypedSpec().Source, r.TypedSpec().Target, r.TypedSpec().FilesystemType = source, target, "ext4"
	})
}

// SystemDisk publishes which disk holds the node's partitions, by its name.
func (s *Store) SystemDisk(name string) {
	Put(s, block.NewSystemDisk(block.NamespaceName, block.SystemDiskID), func(r *block.SystemDisk) {
		r.TypedSpec().DiskID, r.TypedSpec().DevPath = name, "/dev/"+name
	})
}

// Volume publishes a partition of the node: whether it can be used, and why not.
func (s *Store) Volume(label, device, disk string, partition gpt.Partition, content block.FilesystemType, problem error) {
	Put(s, block.NewVolumeStatus(block.NamespaceName, label), func(r *block.VolumeStatus) {
		spec := r.TypedSpec()
		spec.Phase, spec.Type, spec.Filesystem = block.VolumePhaseReady, block.VolumeTypePartition, content
		spec.Location, spec.MountLocation, spec.ParentLocation = device, device, disk
		spec.PartitionIndex, spec.PartitionUUID = partition.Number, partition.ID.String()
		spec.ErrorMessage = ""
		spec.SetSize(partition.Size())

		if problem != nil {
			spec.Phase, spec.PreFailPhase, spec.ErrorMessage = block.VolumePhaseFailed, block.VolumePhaseLocated, problem.Error()
		}
	})
}

// ImageCache publishes whether container images come from a disk of the machine.
func (s *Store) ImageCache(status cri.ImageCacheStatus, roots ...string) {
	Put(s, cri.NewImageCacheConfig(), func(r *cri.ImageCacheConfig) {
		*r.TypedSpec() = cri.ImageCacheConfigSpec{Status: status, CopyStatus: cri.ImageCacheCopyStatusSkipped, Roots: roots}
	})
}

// WatchLinks publishes the network interfaces and their addresses until the context ends.
func (s *Store) WatchLinks(ctx context.Context) error {
	links := make(chan netlink.LinkUpdate, 64)
	addresses := make(chan netlink.AddrUpdate, 64)

	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ListExisting: true}); err != nil {
		return fmt.Errorf("watch network interfaces: %w", err)
	}

	if err := netlink.AddrSubscribeWithOptions(addresses, ctx.Done(), netlink.AddrSubscribeOptions{ListExisting: true}); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}

	names := map[int]string{}

	for {
		select {
		case <-ctx.Done():
			return nil
		case update, ok := <-links:
			if !ok {
				return fmt.Errorf("the watch of network interfaces ended")
			}

			s.link(update, names)
		case update, ok := <-addresses:
			if !ok {
				return fmt.Errorf("the watch of addresses ended")
			}

			s.address(update, names)
		}
	}
}

func (s *Store) link(update netlink.LinkUpdate, names map[int]string) {
	a := update.Link.Attrs()
	names[a.Index] = a.Name
	fresh := network.NewLinkStatus(network.NamespaceName, a.Name)

	if update.Header.Type == unix.RTM_DELLINK {
		s.Drop(fresh.Metadata())
		delete(names, a.Index)

		return
	}

	Put(s, fresh, func(r *network.LinkStatus) {
		spec := r.TypedSpec()
		spec.Index = uint32(a.Index)
		spec.Type = nethelpers.LinkEther

		if a.EncapType == "loopback" {
			spec.Type = nethelpers.LinkLoopbck
		}

		spec.Flags = nethelpers.LinkFlags(a.RawFlags)
		spec.HardwareAddr = nethelpers.HardwareAddr(a.HardwareAddr)
		spec.PermanentAddr = nethelpers.HardwareAddr(a.PermHWAddr)
		spec.MTU = uint32(a.MTU)
		spec.MasterIndex = uint32(a.MasterIndex)
		spec.OperationalState = nethelpers.OperationalState(a.OperState)
		spec.LinkState = a.RawFlags&unix.IFF_LOWER_UP != 0

		// netlink calls a physical interface "device"; in Talos its kind is empty.
		if kind := update.Link.Type(); kind != "device" {
			spec.Kind = kind
		}
	})
}

func (s *Store) address(update netlink.AddrUpdate, names map[int]string) {
	ip, ok := netip.AddrFromSlice(update.LinkAddress.IP)
	if !ok {
		return
	}

	ip = ip.Unmap()
	ones, _ := update.LinkAddress.Mask.Size()
	prefix := netip.PrefixFrom(ip, ones)
	name := names[update.LinkIndex]

	if name == "" { // the address may be told before its interface
		if link, err := netlink.LinkByIndex(update.LinkIndex); err == nil {
			name = link.Attrs().Name
		}
	}

	fresh := network.NewAddressStatus(network.NamespaceName, network.AddressID(name, prefix))

	if !update.NewAddr {
		s.Drop(fresh.Metadata())

		return
	}

	Put(s, fresh, func(r *network.AddressStatus) {
		spec := r.TypedSpec()
		spec.Address = prefix
		spec.Local = ip
		spec.LinkIndex = uint32(update.LinkIndex)
		spec.LinkName = name
		spec.Family = nethelpers.FamilyInet4
		spec.Scope = nethelpers.Scope(update.Scope)

		if ip.Is6() {
			spec.Family = nethelpers.FamilyInet6
		}
	})
}
