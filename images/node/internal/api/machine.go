package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"lab/images/node/internal/bootargs"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/logs"
	"lab/images/node/internal/resources"
	"lab/images/node/internal/supervise"
)

// Node is what the API asks of the node; errors carry gRPC status codes.
type Node interface {
	ApplyConfiguration(ctx context.Context, request *machineapi.ApplyConfigurationRequest, admin bool) (*machineapi.ApplyConfiguration, error)
	Bootstrap(ctx context.Context, request *machineapi.BootstrapRequest) error
	Kubeconfig() ([]byte, error)
	// Reboot, Shutdown and Reset return the id of the events that they cause.
	Reboot(mode string) (string, error)
	Shutdown() (string, error)
	Reset(request *machineapi.ResetRequest) (string, error)
	Hostname() string
	IsControlPlane() bool
	// Kubernetes is a client of the cluster's API with the rights of an administrator; on control planes only.
	Kubernetes() *kube.Client
}

// Machine implements the machine service. Calls that it lacks answer Unimplemented.
type Machine struct {
	machineapi.UnimplementedMachineServiceServer

	Node     Node
	Contract bootargs.Contract
	// Architecture is what Version reports.
	Architecture string
	Services     *supervise.Supervisor
	Logstore     *logs.Store
	Stream       *Events
	Store        *resources.Store
}

// ApplyConfiguration validates and applies a machine config.
func (m *Machine) ApplyConfiguration(ctx context.Context, request *machineapi.ApplyConfigurationRequest) (*machineapi.ApplyConfigurationResponse, error) {
	applied, err := m.Node.ApplyConfiguration(ctx, request, IsAdmin(ctx))
	if err != nil {
		return nil, err
	}

	return &machineapi.ApplyConfigurationResponse{Messages: []*machineapi.ApplyConfiguration{applied}}, nil
}

// Bootstrap starts the first etcd member of a cluster.
func (m *Machine) Bootstrap(ctx context.Context, request *machineapi.BootstrapRequest) (*machineapi.BootstrapResponse, error) {
	if err := m.Node.Bootstrap(ctx, request); err != nil {
		return nil, err
	}

	return &machineapi.BootstrapResponse{Messages: []*machineapi.Bootstrap{{}}}, nil
}

// Kubeconfig streams a tar.gz that holds the administrator's kubeconfig.
func (m *Machine) Kubeconfig(_ *emptypb.Empty, stream machineapi.MachineService_KubeconfigServer) error {
	content, err := m.Node.Kubeconfig()
	if err != nil {
		return err
	}

	var buffer bytes.Buffer

	zipped := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(zipped)

	header := &tar.Header{Typeflag: tar.TypeReg, Name: "kubeconfig", Size: int64(len(content)), ModTime: time.Now(), Mode: 0o600}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}

	if _, err := archive.Write(content); err != nil {
		return err
	}

	if err := archive.Close(); err != nil {
		return err
	}

	if err := zipped.Close(); err != nil {
		return err
	}

	return stream.Send(&common.Data{Bytes: buffer.Bytes()})
}

// versionTags are the releases whose API the generations stand for.
var versionTags = map[bootargs.Contract]string{bootargs.ContractV111: "v1.11.5", bootargs.ContractV112: "v1.12.7", bootargs.ContractV113: "v1.13.9"}

// VersionTag is the release whose API a generation stands for.
func VersionTag(contract bootargs.Contract) string { return versionTags[contract] }

// Version names the release of the API that the node speaks, and says in Sha and Platform that it is not Talos.
func (m *Machine) Version(context.Context, *emptypb.Empty) (*machineapi.VersionResponse, error) {
	return &machineapi.VersionResponse{Messages: []*machineapi.Version{{
		Version: &machineapi.VersionInfo{
			Tag:       VersionTag(m.Contract),
			Sha:       "reference-node",
			Built:     "reference node of the lab, not a Talos build",
			GoVersion: runtime.Version(),
			Os:        runtime.GOOS,
			Arch:      m.Architecture,
		},
		Platform: &machineapi.PlatformInfo{Name: "reference-node", Mode: "metal"},
		Features: &machineapi.FeaturesInfo{Rbac: true},
	}}}, nil
}

// Hostname returns the node's name.
func (m *Machine) Hostname(context.Context, *emptypb.Empty) (*machineapi.HostnameResponse, error) {
	return &machineapi.HostnameResponse{Messages: []*machineapi.Hostname{{Hostname: m.Node.Hostname()}}}, nil
}

// ServiceList returns all services with their history.
func (m *Machine) ServiceList(context.Context, *emptypb.Empty) (*machineapi.ServiceListResponse, error) {
	list := &machineapi.ServiceList{}
	for _, s := range m.Services.List() {
		list.Services = append(list.Services, serviceInfo(s))
	}

	return &machineapi.ServiceListResponse{Messages: []*machineapi.ServiceList{list}}, nil
}

func serviceInfo(s supervise.Status) *machineapi.ServiceInfo {
	events := &machineapi.ServiceEvents{}
	for _, e := range s.Events {
		events.Events = append(events.Events, &machineapi.ServiceEvent{Msg: e.Message, State: string(e.State), Ts: timestamppb.New(e.Time)})
	}

	return &machineapi.ServiceInfo{Id: s.ID, State: string(s.State), Events: events, Health: serviceHealth(s)}
}

func serviceHealth(s supervise.Status) *machineapi.ServiceHealth {
	return &machineapi.ServiceHealth{
		Unknown:     !s.HasHealth || s.Health.Unknown,
		Healthy:     s.HasHealth && s.Health.Healthy,
		LastMessage: s.Health.Message,
		LastChange:  timestamppb.New(s.Health.Changed),
	}
}

// ServiceState turns a change of a service into the event that Talos publishes for it.
func ServiceState(s supervise.Status, e supervise.Event) *machineapi.ServiceStateEvent {
	action := machineapi.ServiceStateEvent_Action_value[strings.ToUpper(string(e.State))]

	return &machineapi.ServiceStateEvent{
		Service: s.ID, Action: machineapi.ServiceStateEvent_Action(action), Message: e.Message, Health: serviceHealth(s),
	}
}

// neverStopped are services that a node is lost without.
var neverStopped = map[string]bool{"machined": true, "apid": true}

// ServiceStart starts a service.
func (m *Machine) ServiceStart(_ context.Context, request *machineapi.ServiceStartRequest) (*machineapi.ServiceStartResponse, error) {
	if err := m.Services.Start(request.GetId()); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}

	return &machineapi.ServiceStartResponse{Messages: []*machineapi.ServiceStart{
		{Resp: fmt.Sprintf("Service %q started", request.GetId())},
	}}, nil
}

// ServiceStop stops a service.
func (m *Machine) ServiceStop(_ context.Context, request *machineapi.ServiceStopRequest) (*machineapi.ServiceStopResponse, error) {
	if err := m.stopService(request.GetId()); err != nil {
		return nil, err
	}

	return &machineapi.ServiceStopResponse{Messages: []*machineapi.ServiceStop{
		{Resp: fmt.Sprintf("Service %q stopped", request.GetId())},
	}}, nil
}

// ServiceRestart stops and starts a service.
func (m *Machine) ServiceRestart(_ context.Context, request *machineapi.ServiceRestartRequest) (*machineapi.ServiceRestartResponse, error) {
	if err := m.stopService(request.GetId()); err != nil {
		return nil, err
	}

	if err := m.Services.Start(request.GetId()); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}

	return &machineapi.ServiceRestartResponse{Messages: []*machineapi.ServiceRestart{
		{Resp: fmt.Sprintf("Service %q restarted", request.GetId())},
	}}, nil
}

func (m *Machine) stopService(id string) error {
	if neverStopped[id] {
		return status.Errorf(codes.PermissionDenied, "service %q doesn't support stop operation via API", id)
	}

	if err := m.Services.Stop(id); err != nil {
		return status.Error(codes.NotFound, err.Error())
	}

	return nil
}

// Reboot restarts the machine; there is no boot loader, so every mode is a full restart.
func (m *Machine) Reboot(_ context.Context, request *machineapi.RebootRequest) (*machineapi.RebootResponse, error) {
	actor, err := m.Node.Reboot(request.GetMode().String())
	if err != nil {
		return nil, err
	}

	return &machineapi.RebootResponse{Messages: []*machineapi.Reboot{{ActorId: actor}}}, nil
}

// Shutdown powers the machine off.
func (m *Machine) Shutdown(context.Context, *machineapi.ShutdownRequest) (*machineapi.ShutdownResponse, error) {
	actor, err := m.Node.Shutdown()
	if err != nil {
		return nil, err
	}

	return &machineapi.ShutdownResponse{Messages: []*machineapi.Shutdown{{ActorId: actor}}}, nil
}

// Reset wipes the node's partitions.
func (m *Machine) Reset(_ context.Context, request *machineapi.ResetRequest) (*machineapi.ResetResponse, error) {
	actor, err := m.Node.Reset(request)
	if err != nil {
		return nil, err
	}

	return &machineapi.ResetResponse{Messages: []*machineapi.Reset{{ActorId: actor}}}, nil
}
