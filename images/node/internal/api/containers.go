package api

import (
	"context"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Labels that the CRI plugin and the kubelet put on containers.
const (
	labelKind         = "io.cri-containerd.kind"
	labelPod          = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPodUID       = "io.kubernetes.pod.uid"
	labelContainer    = "io.kubernetes.container.name"
)

// container is what containerd knows of a container, and its process if it runs.
type container struct {
	*containersapi.Container

	pid    uint32
	status task.Status
}

// listContainers joins the containers of a namespace with their tasks.
func listContainers(ctx context.Context, namespace string) ([]container, error) {
	ctx, conn, err := dialContainerd(ctx, namespace)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	list, err := containersapi.NewContainersClient(conn).List(ctx, &containersapi.ListContainersRequest{})
	if err != nil {
		return nil, err
	}

	tasks, err := tasksapi.NewTasksClient(conn).List(ctx, &tasksapi.ListTasksRequest{})
	if err != nil {
		return nil, err
	}

	running := map[string]*task.Process{}
	for _, t := range tasks.GetTasks() {
		running[t.GetID()] = t
	}

	out := make([]container, 0, len(list.GetContainers()))
	for _, c := range list.GetContainers() {
		t := running[c.GetID()]
		out = append(out, container{c, t.GetPid(), t.GetStatus()})
	}

	return out, nil
}

// containersOf lists containers as Talos shows them: those of pods with the CRI driver, others with containerd's.
func containersOf(ctx context.Context, namespace string, driver common.ContainerDriver) ([]*machineapi.ContainerInfo, error) {
	show := systemContainer

	switch {
	case namespace == "":
		return nil, status.Error(codes.InvalidArgument, "namespace can't be empty")
	case driver == common.ContainerDriver_CONTAINERD:
	case driver == common.ContainerDriver_CRI && namespace == constants.K8sContainerdNamespace:
		show = podContainer
	case driver == common.ContainerDriver_CRI:
		return nil, status.Error(codes.Unknown, "CRI inspector is supported only for K8s namespace")
	default:
		return nil, status.Errorf(codes.InvalidArgument, "unsupported driver %q", driver)
	}

	list, err := listContainers(ctx, namespace)
	if err != nil {
		return nil, err
	}

	var out []*machineapi.ContainerInfo

	for _, c := range list {
		if info := show(c); info != nil {
			info.Namespace = namespace
			out = append(out, info)
		}
	}

	// A sandbox comes before the containers of its pod.
	slices.SortFunc(out, func(a, b *machineapi.ContainerInfo) int { return strings.Compare(a.GetId(), b.GetId()) })

	return out, nil
}

// systemContainer shows a container by its own id. Containers without a process are left out.
func systemContainer(c container) *machineapi.ContainerInfo {
	if c.pid == 0 {
		return nil
	}

	return &machineapi.ContainerInfo{
		Id: c.GetID(), InternalId: c.GetID(), Name: c.GetID(), PodId: c.GetID(),
		Image: c.GetImage(), Pid: c.pid, Status: c.status.String(),
	}
}

// podContainer shows a container of a pod under the name of the pod. Sandboxes that do not run are left out.
func podContainer(c container) *machineapi.ContainerInfo {
	labels := c.GetLabels()
	pod := labels[labelPodNamespace] + "/" + labels[labelPod]
	info := &machineapi.ContainerInfo{
		Id: pod, InternalId: c.GetID(), Name: pod, PodId: pod, Image: c.GetImage(), Pid: c.pid,
	}

	switch labels[labelKind] {
	case "sandbox":
		if c.status != task.Status_RUNNING {
			return nil
		}

		info.Uid, info.Status, info.NetworkNamespace = labels[labelPodUID], "SANDBOX_READY", networkNamespace(c)
	case "container":
		info.Name = labels[labelContainer]
		info.Id = pod + ":" + info.GetName() + ":" + c.GetID()[:min(12, len(c.GetID()))]
		info.Status = map[task.Status]string{
			task.Status_CREATED: "CONTAINER_CREATED", task.Status_RUNNING: "CONTAINER_RUNNING", task.Status_PAUSED: "CONTAINER_RUNNING",
		}[c.status]

		if info.GetStatus() == "" {
			info.Status = "CONTAINER_EXITED"
		}
	default:
		return nil
	}

	return info
}

// networkNamespace is the name of the namespace that the runtime spec of a sandbox names; empty on the host's network.
func networkNamespace(c container) string {
	var spec specs.Spec
	if json.Unmarshal(c.GetSpec().GetValue(), &spec) != nil || spec.Linux == nil {
		return ""
	}

	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace && n.Path != "" {
			return path.Base(n.Path)
		}
	}

	return ""
}

// Containers lists the containers of a containerd namespace.
func (m *Machine) Containers(ctx context.Context, request *machineapi.ContainersRequest) (*machineapi.ContainersResponse, error) {
	list, err := containersOf(ctx, request.GetNamespace(), request.GetDriver())
	if err != nil {
		return nil, err
	}

	return &machineapi.ContainersResponse{Messages: []*machineapi.Container{{Containers: list}}}, nil
}

// Stats tells the memory and the CPU time of each container that runs, from its control group.
func (m *Machine) Stats(ctx context.Context, request *machineapi.StatsRequest) (*machineapi.StatsResponse, error) {
	list, err := containersOf(ctx, request.GetNamespace(), request.GetDriver())
	if err != nil {
		return nil, err
	}

	out := &machineapi.Stats{}

	for _, c := range list {
		if c.GetPid() == 0 {
			continue
		}

		stat := &machineapi.Stat{Namespace: c.GetNamespace(), Id: c.GetId(), PodId: c.GetPodId(), Name: c.GetName()}

		group, err := controlGroup(c.GetPid())
		if err != nil {
			continue // it ended meanwhile
		}

		stat.MemoryUsage = number(readTrimmed(group + "/memory.current"))
		if request.GetDriver() == common.ContainerDriver_CRI { // the working set, as the CRI has it
			stat.MemoryUsage -= min(stat.GetMemoryUsage(), keyed(group+"/memory.stat", "inactive_file"))
		}

		stat.CpuUsage = keyed(group+"/cpu.stat", "usage_usec") * 1000

		out.Stats = append(out.Stats, stat)
	}

	return &machineapi.StatsResponse{Messages: []*machineapi.Stats{out}}, nil
}

// controlGroup is the directory of the control group (version 2) of a process.
func controlGroup(pid uint32) (string, error) {
	content, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/cgroup")
	if err != nil {
		return "", err
	}

	for line := range strings.Lines(string(content)) {
		if group, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join("/sys/fs/cgroup", filepath.Clean("/"+strings.TrimSpace(group))), nil
		}
	}

	return "", os.ErrNotExist
}

// keyed reads a number from a file with a name and a number on each line; 0 if there is none.
func keyed(file, key string) uint64 {
	content, _ := os.ReadFile(file)

	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			return number(strings.TrimSpace(value))
		}
	}

	return 0
}

func readTrimmed(file string) string {
	content, _ := os.ReadFile(file)

	return strings.TrimSpace(string(content))
}

func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)

	return n
}
