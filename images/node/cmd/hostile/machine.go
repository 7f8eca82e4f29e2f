//go:build hostile

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const port = ":50000"

type maintenance struct {
	machineapi.UnimplementedMachineServiceServer

	configured chan config.Provider
}

func (m *maintenance) ApplyConfiguration(_ context.Context, r *machineapi.ApplyConfigurationRequest) (*machineapi.ApplyConfigurationResponse, error) {
	provider, err := configloader.NewFromBytes(r.GetData())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	select {
	case m.configured <- provider:
	default:
	}

	return &machineapi.ApplyConfigurationResponse{
		Messages: []*machineapi.ApplyConfiguration{{Warnings: []string{lie, strings.Repeat(lie, 2000)}}},
	}, nil
}

// maintenanceStatus tells the truth about the mode, as the lab gives no config to a node that does not.
type maintenanceStatus struct {
	cosi.UnimplementedStateServer
}

func (maintenanceStatus) Get(_ context.Context, r *cosi.GetRequest) (*cosi.GetResponse, error) {
	return &cosi.GetResponse{Resource: &cosi.Resource{
		Metadata: &cosi.Metadata{Namespace: r.GetNamespace(), Type: r.GetType(), Id: r.GetId(), Version: "1", Phase: "running"},
		Spec:     &cosi.Spec{YamlSpec: "stage: maintenance\nstatus:\n  ready: true\n  unmetConditions: []\n"},
	}}, nil
}

func serveMaintenance(ctx context.Context, cert *x509.PEMEncodedCertificateAndKey, configured chan config.Provider) error {
	pair, err := tls.X509KeyPair(cert.Crt, cert.Key)
	if err != nil {
		return err
	}

	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	machineapi.RegisterMachineServiceServer(server, &maintenance{configured: configured})
	cosi.RegisterStateServer(server, maintenanceStatus{})

	listener, err := net.Listen("tcp", port)
	if err != nil {
		return err
	}

	go func() {
		<-ctx.Done()
		// The answer to the config goes out, and the client hangs up.
		time.AfterFunc(5*time.Second, server.Stop)
		server.GracefulStop()
	}()

	return server.Serve(listener)
}

// hostile answers every call of the machine API that the lab makes.
type hostile struct {
	machineapi.UnimplementedMachineServiceServer
	timeapi.UnimplementedTimeServiceServer

	calls atomic.Int64
}

// resources answers what is asked of the node's resources.
type resources struct {
	cosi.UnimplementedStateServer

	calls atomic.Int64
}

func serveMachine(pair tls.Certificate) error {
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)), grpc.MaxSendMsgSize(math.MaxInt32))
	h := &hostile{}
	machineapi.RegisterMachineServiceServer(server, h)
	cosi.RegisterStateServer(server, &resources{})
	timeapi.RegisterTimeServiceServer(server, h)

	listener, err := net.Listen("tcp", port)
	if err != nil {
		return err
	}

	return server.Serve(listener)
}

func (h *hostile) Version(context.Context, *emptypb.Empty) (*machineapi.VersionResponse, error) {
	return &machineapi.VersionResponse{Messages: []*machineapi.Version{{
		Version:  &machineapi.VersionInfo{Tag: strings.Repeat(lie, 10000), Arch: lie},
		Platform: &machineapi.PlatformInfo{Name: lie},
	}}}, nil
}

// Bootstrap is done, or else nothing more would be asked.
func (h *hostile) Bootstrap(context.Context, *machineapi.BootstrapRequest) (*machineapi.BootstrapResponse, error) {
	return &machineapi.BootstrapResponse{}, nil
}

// Kubeconfig names a program that the host is to run.
func (h *hostile) Kubeconfig(_ *emptypb.Empty, out grpc.ServerStreamingServer[common.Data]) error {
	text := []byte(`{clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}], current-context: a,
contexts: [{name: a, context: {cluster: a, user: a}}],
users: [{name: a, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/lab-hostile-exec]}}}]}`)

	var packed bytes.Buffer

	gz := gzip.NewWriter(&packed)
	archive := tar.NewWriter(gz)
	_ = archive.WriteHeader(&tar.Header{Name: "kubeconfig", Mode: 0o600, Size: int64(len(text))})
	_, _ = archive.Write(text)
	_ = archive.Close()
	_ = gz.Close()

	return out.Send(&common.Data{Bytes: packed.Bytes()})
}

func (h *hostile) ServiceList(context.Context, *emptypb.Empty) (*machineapi.ServiceListResponse, error) {
	if told() {
		kubelet := &machineapi.ServiceInfo{Id: "kubelet", State: "Running", Health: &machineapi.ServiceHealth{Healthy: true}}

		return &machineapi.ServiceListResponse{Messages: []*machineapi.ServiceList{{Services: []*machineapi.ServiceInfo{kubelet}}}}, nil
	}

	service := func(id string) *machineapi.ServiceInfo {
		return &machineapi.ServiceInfo{
			Id:     id,
			State:  lie,
			Health: &machineapi.ServiceHealth{LastMessage: lie},
			Events: &machineapi.ServiceEvents{Events: []*machineapi.ServiceEvent{
				{Msg: lie, Ts: &timestamppb.Timestamp{Seconds: math.MaxInt64, Nanos: math.MinInt32}}, {Msg: "going to restart " + lie},
			}},
		}
	}

	services := []*machineapi.ServiceInfo{service("kubelet")}

	switch h.calls.Add(1) % 4 {
	case 0:
		services = append(services, service("ext-../../../../../../../../../../tmp/lab-hostile-escape"))
	case 1:
		services = append(services, service("ext-"+lie))
	case 2:
		services = append(services, service(strings.Repeat("a", 40<<20)))
	}

	return &machineapi.ServiceListResponse{Messages: []*machineapi.ServiceList{{Services: services}}}, nil
}

// Logs never end.
func (h *hostile) Logs(_ *machineapi.LogsRequest, out grpc.ServerStreamingServer[common.Data]) error {
	return endless(func(chunk []byte) error { return out.Send(&common.Data{Bytes: chunk}) })
}

func (h *hostile) Read(_ *machineapi.ReadRequest, out grpc.ServerStreamingServer[common.Data]) error {
	return endless(func(chunk []byte) error { return out.Send(&common.Data{Bytes: chunk}) })
}

func endless(send func([]byte) error) error {
	chunk := []byte(strings.Repeat(lie+"\n", 4000))

	for {
		if err := send(chunk); err != nil {
			return err
		}
	}
}

// Dmesg drips.
func (h *hostile) Dmesg(_ *machineapi.DmesgRequest, out grpc.ServerStreamingServer[common.Data]) error {
	for {
		if err := out.Send(&common.Data{Bytes: []byte("\x1b")}); err != nil {
			return err
		}

		time.Sleep(200 * time.Millisecond)
	}
}

func (h *hostile) ImageList(_ *machineapi.ImageListRequest, out grpc.ServerStreamingServer[machineapi.ImageListResponse]) error {
	for i := 0; ; i++ {
		if err := out.Send(&machineapi.ImageListResponse{Name: fmt.Sprint(lie, i)}); err != nil {
			return err
		}
	}
}

func (h *hostile) Processes(context.Context, *emptypb.Empty) (*machineapi.ProcessesResponse, error) {
	info := &machineapi.ProcessInfo{Command: lie, Args: strings.Repeat(lie, 100), CpuTime: math.NaN(), Pid: math.MinInt32}
	process := &machineapi.Process{}

	for range 10000 {
		process.Processes = append(process.Processes, info)
	}

	return &machineapi.ProcessesResponse{Messages: []*machineapi.Process{process}}, nil
}

func (h *hostile) Time(context.Context, *emptypb.Empty) (*timeapi.TimeResponse, error) {
	return &timeapi.TimeResponse{Messages: []*timeapi.Time{{Localtime: &timestamppb.Timestamp{Seconds: math.MinInt64, Nanos: -1}}}}, nil
}

// specs are what resources claim to be: deep, wrong, large, and almost right.
func (h *resources) spec() *cosi.Resource {
	specs := []string{
		strings.Repeat("[", 2<<20),
		"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
		"stage: 7\nstatus: [ready]\n",
		"stage: running\nstatus:\n  ready: false\n  unmetConditions:\n    - name: \"\\x1b]0;owned-title\\x07\"\n      reason: \"<script>\\n::error::owned-command\"\n",
		"!!binary \x00\xff",
	}
	spec := specs[h.calls.Add(1)%int64(len(specs))]

	return &cosi.Resource{
		Metadata: &cosi.Metadata{Namespace: lie, Type: lie, Id: "../../" + lie, Version: "1"},
		Spec:     &cosi.Spec{YamlSpec: strings.ToValidUTF8(spec, "?")},
	}
}

func (h *resources) Get(context.Context, *cosi.GetRequest) (*cosi.GetResponse, error) {
	return &cosi.GetResponse{Resource: h.spec()}, nil
}

func (h *resources) List(_ *cosi.ListRequest, out grpc.ServerStreamingServer[cosi.ListResponse]) error {
	for {
		if err := out.Send(&cosi.ListResponse{Resource: h.spec()}); err != nil {
			return err
		}
	}
}

// Watch reports changes for a while, and then an error.
func (h *resources) Watch(r *cosi.WatchRequest, out grpc.ServerStreamingServer[cosi.WatchResponse]) error {
	if told() && r.GetType() == "MachineStatuses.runtime.talos.dev" {
		ready := &cosi.Resource{
			Metadata: &cosi.Metadata{Namespace: r.GetNamespace(), Type: r.GetType(), Id: "machine", Version: "1", Phase: "running"},
			Spec:     &cosi.Spec{YamlSpec: "stage: running\nstatus:\n  ready: true\n  unmetConditions: []\n"},
		}

		event := &cosi.Event{EventType: cosi.EventType_CREATED, Resource: ready}
		if err := out.Send(&cosi.WatchResponse{Event: []*cosi.Event{event}}); err != nil {
			return err
		}

		seen()
		<-truth.over
	}

	for range 200 {
		event := &cosi.Event{EventType: cosi.EventType_UPDATED, Resource: h.spec()}
		if err := out.Send(&cosi.WatchResponse{Event: []*cosi.Event{event}}); err != nil {
			return err
		}
	}

	return status.Error(codes.Unavailable, strings.Repeat(lie, 20))
}
