package api

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// other is another node of the cluster; it keeps the metadata that its callers send.
type other struct {
	machineapi.UnimplementedMachineServiceServer

	name string
	seen metadata.MD
}

func (o *other) Hostname(ctx context.Context, _ *emptypb.Empty) (*machineapi.HostnameResponse, error) {
	o.seen, _ = metadata.FromIncomingContext(ctx)

	return &machineapi.HostnameResponse{Messages: []*machineapi.Hostname{{Hostname: o.name}}}, nil
}

func (o *other) Logs(_ *machineapi.LogsRequest, stream machineapi.MachineService_LogsServer) error {
	if o.name == "broken" {
		return status.Error(codes.NotFound, "no such log")
	}

	return stream.Send(&common.Data{Bytes: []byte(o.name)})
}

// forwarderTo is a forwarder with connections to nodes in memory; the name of a node is its address.
func forwarderTo(t *testing.T, names ...string) (*Forwarder, map[string]*other) {
	f, nodes := &Forwarder{conns: map[string]*grpc.ClientConn{}}, map[string]*other{}

	for _, name := range names {
		listener := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		nodes[name] = &other{name: name}
		machineapi.RegisterMachineServiceServer(server, nodes[name])

		go func() { _ = server.Serve(listener) }()

		t.Cleanup(server.Stop)

		conn, err := grpc.NewClient("passthrough:///"+name, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}

		f.conns[name] = conn
	}

	t.Cleanup(f.Close)

	return f, nodes
}

func incoming(pairs ...string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs(pairs...))
}

func TestAnswersOfSeveralNodesAreOneReplyWithTheirNames(t *testing.T) {
	f, nodes := forwarderTo(t, "cp", "worker")
	ctx := incoming("nodes", "cp", "nodes", "worker", ":authority", "10.5.0.2:50000", "extra", "kept")

	answer, err := f.unary(ctx, &emptypb.Empty{}, machineapi.MachineService_Hostname_FullMethodName, Target{Nodes: []string{"cp", "worker"}, Many: true})
	if err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, part := range answer.(*machineapi.HostnameResponse).GetMessages() {
		got = append(got, part.GetMetadata().GetHostname()+"="+part.GetHostname())
	}

	if !slices.Equal(got, []string{"cp=cp", "worker=worker"}) {
		t.Fatalf("got %q", got)
	}

	seen := nodes["worker"].seen
	if len(seen.Get("nodes")) > 0 || seen.Get("proxyfrom")[0] != "10.5.0.2:50000" || seen.Get("extra")[0] != "kept" {
		t.Fatalf("the node saw the metadata %v", seen)
	}
}

func TestANodeThatDoesNotAnswerIsAPartWithAnError(t *testing.T) {
	f, _ := forwarderTo(t, "cp")

	// A worker has no members of etcd to list.
	answer, err := f.unary(incoming(), &machineapi.EtcdMemberListRequest{}, machineapi.MachineService_EtcdMemberList_FullMethodName, Target{Nodes: []string{"cp"}, Many: true})
	if err != nil {
		t.Fatal(err)
	}

	parts := answer.(*machineapi.EtcdMemberListResponse).GetMessages()
	if len(parts) != 1 || parts[0].GetMetadata().GetHostname() != "cp" || codes.Code(parts[0].GetMetadata().GetStatus().GetCode()) != codes.Unimplemented {
		t.Fatalf("got %v", parts)
	}

	_, err = f.unary(incoming(), &machineapi.EtcdMemberListRequest{}, machineapi.MachineService_EtcdMemberList_FullMethodName, Target{Nodes: []string{"cp"}})
	if status.Code(err) != codes.Unimplemented {
		t.Fatalf("one node alone: got %v", err)
	}
}

// recorded is a client's stream: its request, and what it was sent.
type recorded struct {
	grpc.ServerStream

	ctx     context.Context
	request proto.Message
	sent    []string
}

func (r *recorded) Context() context.Context { return r.ctx }

func (r *recorded) RecvMsg(into any) error {
	proto.Merge(into.(proto.Message), r.request)

	return nil
}

func (r *recorded) SendMsg(message any) error {
	data := message.(*common.Data)
	r.sent = append(r.sent, data.GetMetadata().GetHostname()+"="+string(data.GetBytes())+data.GetMetadata().GetError())

	return nil
}

func TestStreamsOfSeveralNodesAreJoined(t *testing.T) {
	f, _ := forwarderTo(t, "cp", "broken")
	client := &recorded{ctx: incoming(), request: &machineapi.LogsRequest{Id: "kubelet"}}

	if err := f.stream(client, machineapi.MachineService_Logs_FullMethodName, Target{Nodes: []string{"cp", "broken"}, Many: true}); err != nil {
		t.Fatal(err)
	}

	slices.Sort(client.sent)

	if len(client.sent) != 2 || client.sent[1] != "cp=cp" || !strings.HasPrefix(client.sent[0], "broken=") || !strings.Contains(client.sent[0], "no such log") {
		t.Fatalf("got %q", client.sent)
	}

	err := f.stream(client, machineapi.MachineService_Logs_FullMethodName, Target{Nodes: []string{"broken"}})
	if status.Code(err) != codes.NotFound {
		t.Fatalf("one node alone: got %v", err)
	}
}

func TestOnlyNodesAreDialled(t *testing.T) {
	f := &Forwarder{}

	for _, node := range []string{"", "unix:///run/containerd/containerd.sock", "[::1]:22"} {
		if _, err := f.conn(node); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "invalid target") {
			t.Errorf("%q: got %v", node, err)
		}
	}
}
