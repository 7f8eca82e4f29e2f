package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

var errEmpty = errors.New("the answer says nothing")

// filled is an error unless the answer of a call says something.
func filled[A any](answer A, err error, says func(A) bool) error {
	if err == nil && !says(answer) {
		err = errEmpty
	}

	return err
}

// streamed reads a stream to its end, and needs a message in it.
func streamed[M any](stream grpc.ServerStreamingClient[M], err error) error {
	if err != nil {
		return err
	}

	for messages := 0; ; messages++ {
		_, err := stream.Recv()

		switch {
		case errors.Is(err, io.EOF) && messages == 0:
			return errEmpty
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// content reads a file or an archive to its end, and needs text in it.
func content(reader io.ReadCloser, err error, text string) error {
	if err != nil {
		return err
	}

	read, err := io.ReadAll(reader)

	return filled(string(read), errors.Join(err, reader.Close()), func(read string) bool { return strings.Contains(read, text) })
}

func calls() []call {
	return slices.Concat(general(), resources(), machine(), containers(), etcd())
}

// on names the one node of a call, as talosctl does.
func (w walk) on(ctx context.Context) context.Context { return client.WithNodes(ctx, w.controlPlane) }

func general() []call {
	return []call{
		{"version", func(ctx context.Context, w walk) error {
			answer, err := w.Version(w.on(ctx))

			return filled(answer, err, func(a *machineapi.VersionResponse) bool { return a.GetMessages()[0].GetVersion().GetTag() != "" })
		}},
		{"version -n CONTROL-PLANE,WORKER", func(ctx context.Context, w walk) error {
			answer, err := w.Version(client.WithNodes(ctx, w.controlPlane, w.worker))

			return filled(answer, err, func(a *machineapi.VersionResponse) bool {
				return len(a.GetMessages()) == 2 && a.GetMessages()[1].GetMetadata().GetHostname() == w.worker
			})
		}},
		{"read -n WORKER /etc/hostname", func(ctx context.Context, w walk) error {
			reader, err := w.Read(client.WithNodes(ctx, w.worker), "/etc/hostname")

			return content(reader, err, "worker")
		}},
		{"health", func(ctx context.Context, w walk) error {
			stream, err := w.ClusterHealthCheck(w.on(ctx), patience, nil)
			if err != nil {
				return err
			}

			last := ""

			for {
				progress, err := stream.Recv()

				switch {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return fmt.Errorf("%w (last: %s)", err, last)
				case progress.GetMetadata().GetError() != "":
					return fmt.Errorf("%s (last: %s)", progress.GetMetadata().GetError(), last)
				}

				last = progress.GetMessage()
			}
		}},
		{"kubeconfig", func(ctx context.Context, w walk) error {
			text, err := w.Kubeconfig(w.on(ctx))

			return filled(string(text), err, func(text string) bool { return strings.Contains(text, "clusters:") })
		}},
		{"inspect dependencies", func(ctx context.Context, w walk) error {
			_, err := w.Inspect.ControllerRuntimeDependencies(w.on(ctx))

			return err
		}},
		{"pcap", func(ctx context.Context, w walk) error {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()

			reader, err := w.PacketCapture(w.on(ctx), &machineapi.PacketCaptureRequest{Interface: "lo", SnapLen: 64})

			return content(reader, err, "")
		}},
	}
}

func machine() []call {
	return []call{
		{"services", func(ctx context.Context, w walk) error {
			answer, err := w.ServiceList(w.on(ctx))

			return filled(answer, err, func(a *machineapi.ServiceListResponse) bool { return len(a.GetMessages()[0].GetServices()) > 5 })
		}},
		{"service kubelet", func(ctx context.Context, w walk) error {
			list, err := w.ServiceInfo(w.on(ctx), "kubelet")

			return filled(list, err, func(list []client.ServiceInfo) bool {
				return len(list) == 1 && len(list[0].Service.GetEvents().GetEvents()) > 0
			})
		}},
		{"logs kubelet", func(ctx context.Context, w walk) error {
			return streamed(w.Logs(w.on(ctx), constants.SystemContainerdNamespace, common.ContainerDriver_CONTAINERD, "kubelet", false, 10))
		}},
		{"dmesg", func(ctx context.Context, w walk) error { return streamed(w.Dmesg(w.on(ctx), false, false)) }},
		{"events --tail 3", func(ctx context.Context, w walk) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()

			// The first message is empty: it tells that the stream has begun.
			stream, err := w.Events(w.on(ctx), client.WithTailEvents(3))
			for range 2 {
				if err == nil {
					_, err = stream.Recv()
				}
			}

			return err
		}},
		{"processes", func(ctx context.Context, w walk) error {
			answer, err := w.Processes(w.on(ctx))

			return filled(answer, err, func(a *machineapi.ProcessesResponse) bool { return len(a.GetMessages()[0].GetProcesses()) > 10 })
		}},
		{"memory", func(ctx context.Context, w walk) error {
			answer, err := w.Memory(w.on(ctx))

			return filled(answer, err, func(a *machineapi.MemoryResponse) bool { return a.GetMessages()[0].GetMeminfo().GetMemavailable() > 0 })
		}},
		{"mounts", func(ctx context.Context, w walk) error {
			answer, err := w.Mounts(w.on(ctx))

			return filled(answer, err, func(a *machineapi.MountsResponse) bool {
				return slices.ContainsFunc(a.GetMessages()[0].GetStats(), func(m *machineapi.MountStat) bool { return m.GetMountedOn() == "/var" && m.GetSize() > 0 })
			})
		}},
		{"netstat", func(ctx context.Context, w walk) error {
			answer, err := w.Netstat(w.on(ctx), &machineapi.NetstatRequest{
				Filter:  machineapi.NetstatRequest_LISTENING,
				L4Proto: &machineapi.NetstatRequest_L4Proto{Tcp: true, Tcp6: true}, Netns: &machineapi.NetstatRequest_NetNS{Hostnetwork: true},
			})

			return filled(answer, err, func(a *machineapi.NetstatResponse) bool {
				return slices.ContainsFunc(a.GetMessages()[0].GetConnectrecord(), func(c *machineapi.ConnectRecord) bool { return c.GetLocalport() == constants.ApidPort })
			})
		}},
		{"time", func(ctx context.Context, w walk) error {
			answer, err := w.Time(w.on(ctx))
			if err != nil {
				return err
			}

			if apart := time.Since(answer.GetMessages()[0].GetLocaltime().AsTime()).Abs(); apart > time.Hour {
				return fmt.Errorf("the clock of the node is %s apart", apart)
			}

			return nil
		}},
		{"read /etc/os-release", func(ctx context.Context, w walk) error {
			reader, err := w.Read(w.on(ctx), "/etc/os-release")

			return content(reader, err, "NAME=")
		}},
		{"list /etc", func(ctx context.Context, w walk) error {
			return streamed(w.LS(w.on(ctx), &machineapi.ListRequest{Root: "/etc", RecursionDepth: 1}))
		}},
		{"copy /etc/cri", func(ctx context.Context, w walk) error {
			reader, err := w.Copy(w.on(ctx), "/etc/cri")

			return content(reader, err, "\x1f\x8b") // the head of gzip
		}},
		{"usage /var/log", func(ctx context.Context, w walk) error {
			return streamed(w.DiskUsage(w.on(ctx), &machineapi.DiskUsageRequest{RecursionDepth: 1, Paths: []string{"/var/log"}}))
		}},
		{"dashboard", func(ctx context.Context, w walk) error { return dashboard(w.on(ctx), w.MachineClient) }},
	}
}

// dashboard makes the calls of talosctl dashboard.
func dashboard(ctx context.Context, c machineapi.MachineServiceClient) error {
	nothing := &emptypb.Empty{}
	cpus, err := c.CPUInfo(ctx, nothing)
	_, frequencies := c.CPUFreqStats(ctx, nothing)
	stat, statErr := c.SystemStat(ctx, nothing)
	disks, disksErr := c.DiskStats(ctx, nothing)
	devices, devicesErr := c.NetworkDeviceStats(ctx, nothing)
	load, loadErr := c.LoadAvg(ctx, nothing)

	if err := errors.Join(err, frequencies, statErr, disksErr, devicesErr, loadErr); err != nil {
		return err
	}

	if len(cpus.GetMessages()[0].GetCpuInfo()) == 0 || stat.GetMessages()[0].GetBootTime() == 0 || len(disks.GetMessages()[0].GetDevices()) == 0 ||
		len(devices.GetMessages()[0].GetDevices()) == 0 || load.GetMessages()[0].GetLoad1() == 0 {
		return errEmpty
	}

	return nil
}

func containers() []call {
	list := func(namespace string, driver common.ContainerDriver) func(context.Context, walk) error {
		return func(ctx context.Context, w walk) error {
			_, err := w.Containers(w.on(ctx), namespace, driver)

			return err
		}
	}

	return []call{
		{"containers", list(constants.SystemContainerdNamespace, common.ContainerDriver_CONTAINERD)},
		{"containers -k", func(ctx context.Context, w walk) error {
			answer, err := w.Containers(client.WithNodes(ctx, w.controlPlane, w.worker), constants.K8sContainerdNamespace, common.ContainerDriver_CRI)

			return filled(answer, err, func(a *machineapi.ContainersResponse) bool {
				return slices.ContainsFunc(a.GetMessages(), func(node *machineapi.Container) bool {
					return slices.ContainsFunc(node.GetContainers(), func(c *machineapi.ContainerInfo) bool {
						return strings.HasPrefix(c.GetId(), "kube-system/") && c.GetPid() > 0
					})
				})
			})
		}},
		{"logs -k kube-system/POD:CONTAINER", func(ctx context.Context, w walk) error {
			answer, err := w.Containers(client.WithNodes(ctx, w.controlPlane, w.worker), constants.K8sContainerdNamespace, common.ContainerDriver_CRI)
			if err != nil {
				return err
			}

			for _, node := range answer.GetMessages() {
				for _, c := range node.GetContainers() {
					if c.GetName() != c.GetPodId() { // a sandbox has the name of its pod, and no log
						ctx := client.WithNodes(ctx, node.GetMetadata().GetHostname())

						return streamed(w.Logs(ctx, constants.K8sContainerdNamespace, common.ContainerDriver_CRI, c.GetId(), false, 5))
					}
				}
			}

			return errEmpty
		}},
		{"stats -k", func(ctx context.Context, w walk) error {
			answer, err := w.Stats(client.WithNodes(ctx, w.controlPlane, w.worker), constants.K8sContainerdNamespace, common.ContainerDriver_CRI)

			return filled(answer, err, func(a *machineapi.StatsResponse) bool {
				return slices.ContainsFunc(a.GetMessages(), func(node *machineapi.Stats) bool {
					return slices.ContainsFunc(node.GetStats(), func(s *machineapi.Stat) bool { return s.GetMemoryUsage() > 0 && s.GetCpuUsage() > 0 })
				})
			})
		}},
		{"image list", func(ctx context.Context, w walk) error {
			// One call is for one node, and a node that runs no pod has no image.
			list := func(node string) error {
				return streamed(w.ImageClient.List(client.WithNode(ctx, node), &machineapi.ImageServiceListRequest{
					Containerd: &common.ContainerdInstance{Driver: common.ContainerDriver_CRI, Namespace: common.ContainerdNamespace_NS_CRI},
				}))
			}

			err := list(w.controlPlane)
			if errors.Is(err, errEmpty) {
				err = list(w.worker)
			}

			return err
		}},
	}
}

func etcd() []call {
	return []call{
		{"etcd members", func(ctx context.Context, w walk) error {
			answer, err := w.EtcdMemberList(w.on(ctx), &machineapi.EtcdMemberListRequest{})

			return filled(answer, err, func(a *machineapi.EtcdMemberListResponse) bool { return len(a.GetMessages()[0].GetMembers()) == 1 })
		}},
		{"etcd members -n WORKER", func(ctx context.Context, w walk) error {
			_, err := w.EtcdMemberList(client.WithNodes(ctx, w.worker), &machineapi.EtcdMemberListRequest{})

			return err
		}},
		{"etcd status", func(ctx context.Context, w walk) error {
			answer, err := w.EtcdStatus(w.on(ctx))

			return filled(answer, err, func(a *machineapi.EtcdStatusResponse) bool {
				return a.GetMessages()[0].GetMemberStatus().GetDbSize() > 0
			})
		}},
		{"etcd alarm list", func(ctx context.Context, w walk) error {
			_, err := w.EtcdAlarmList(w.on(ctx))

			return err
		}},
	}
}
