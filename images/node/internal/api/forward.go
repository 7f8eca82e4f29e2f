package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// proxiedFrom marks a call that a node forwarded; the next node answers it itself.
const proxiedFrom = "proxyfrom"

// Forwarder carries calls to the nodes that they name, as apid of a control plane does: with the node's own certificate
// and the roles of the caller. It knows no call: request and reply come from the definition of the service.
type Forwarder struct {
	// TLS makes the client settings for other nodes. It is asked once, at the first forwarded call.
	TLS func() (*tls.Config, error)

	mu    sync.Mutex
	creds credentials.TransportCredentials
	conns map[string]*grpc.ClientConn
}

// conn returns the connection to a node. Connections are kept; gRPC closes idle ones.
func (f *Forwarder) conn(node string) (*grpc.ClientConn, error) {
	if node == "" || strings.ContainsAny(node, "/[]") {
		return nil, status.Errorf(codes.Internal, "invalid target %q", node)
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	if conn, ok := f.conns[node]; ok {
		return conn, nil
	}

	if f.creds == nil {
		settings, err := f.TLS()
		if err != nil {
			return nil, status.Errorf(codes.Internal, "certificate for calls to other nodes: %s", err)
		}

		f.creds = credentials.NewTLS(settings)
	}

	// As in Talos: a node that was restarted is dialled again soon.
	dialling := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 20 * time.Second}
	dialling.Backoff.MaxDelay = 15 * time.Second

	conn, err := grpc.NewClient(net.JoinHostPort(node, strconv.Itoa(Port)),
		grpc.WithTransportCredentials(f.creds),
		grpc.WithConnectParams(dialling),
		grpc.WithSharedWriteBuffer(true),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize)),
	)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "dial %s: %s", node, err)
	}

	if f.conns == nil {
		f.conns = map[string]*grpc.ClientConn{}
	}

	f.conns[node] = conn

	return conn, nil
}

// Close ends all connections.
func (f *Forwarder) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()

	for _, conn := range f.conns {
		_ = conn.Close()
	}

	f.conns = nil
}

// outgoing is the context of a forwarded call: the metadata of the caller, without the nodes, and with its roles.
func outgoing(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	md = md.Copy()

	from := md.Get(":authority")
	if len(from) == 0 {
		from = []string{"unknown"}
	}

	for _, key := range []string{":authority", "node", "nodes"} {
		md.Delete(key)
	}

	md.Set(proxiedFrom, from...)
	md.Set(constants.APIAuthzRoleMetadataKey, callerRoles(ctx).Strings()...)

	return metadata.NewOutgoingContext(ctx, md)
}

func (f *Forwarder) unary(ctx context.Context, request any, method string, target Target) (any, error) {
	call, err := callOf(method)
	if err != nil {
		return nil, err
	}

	ctx = outgoing(ctx)

	ask := func(node string) (proto.Message, error) {
		conn, err := f.conn(node)
		if err != nil {
			return nil, err
		}

		reply := call.reply()

		return reply, conn.Invoke(ctx, method, request, reply)
	}

	if !target.Many {
		return ask(target.Nodes[0])
	}

	parts := make([]proto.Message, len(target.Nodes))

	var asked sync.WaitGroup

	for i, node := range target.Nodes {
		asked.Go(func() {
			reply, err := ask(node)
			if err != nil {
				reply = call.reply()
				appendPart(reply)
			}

			tagParts(reply, node, err)

			parts[i] = reply
		})
	}

	asked.Wait()

	merged := call.reply()
	for _, part := range parts {
		proto.Merge(merged, part) // lists are joined
	}

	return merged, nil
}

func (f *Forwarder) stream(s grpc.ServerStream, method string, target Target) error {
	call, err := callOf(method)
	if err != nil {
		return err
	}

	request := call.request()
	if err := s.RecvMsg(request); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(outgoing(s.Context()))
	defer cancel()

	if !target.Many {
		return f.copyStream(ctx, call, method, target.Nodes[0], request, s.SendMsg)
	}

	var (
		sending sync.Mutex
		asked   sync.WaitGroup
		failed  error
	)

	send := func(message any) error {
		sending.Lock()
		defer sending.Unlock()

		if failed == nil {
			if failed = s.SendMsg(message); failed != nil {
				cancel()
			}
		}

		return failed
	}

	for _, node := range target.Nodes {
		asked.Go(func() {
			err := f.copyStream(ctx, call, method, node, request, func(message any) error {
				tag(message.(proto.Message).ProtoReflect(), node, nil)

				return send(message)
			})
			if err != nil {
				last := call.reply()
				tag(last.ProtoReflect(), node, err)

				_ = send(last) // the error of the client's own stream is kept in failed
			}
		})
	}

	asked.Wait()

	return failed
}

// copyStream sends one request to a node and passes on each message of the answer.
func (f *Forwarder) copyStream(ctx context.Context, call call, method, node string, request proto.Message, send func(any) error) error {
	conn, err := f.conn(node)
	if err != nil {
		return err
	}

	remote, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}

	if err := errors.Join(remote.SendMsg(request), remote.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return err // after io.EOF, RecvMsg returns the error of the node
	}

	for {
		reply := call.reply()

		switch err := remote.RecvMsg(reply); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}

		if err := send(reply); err != nil {
			return err
		}
	}
}

// call makes the messages of a method.
type call struct {
	request, reply func() proto.Message
}

// callOf looks up a method such as /machine.MachineService/Version in the definitions that this program contains.
func callOf(method string) (call, error) {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")

	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return call{}, status.Errorf(codes.Unimplemented, "unknown service %s", service)
	}

	definition, ok := found.(protoreflect.ServiceDescriptor)
	if !ok || definition.Methods().ByName(protoreflect.Name(name)) == nil {
		return call{}, status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}

	described := definition.Methods().ByName(protoreflect.Name(name))
	if described.IsStreamingClient() {
		return call{}, status.Errorf(codes.Unimplemented, "calls of %s, which sends a stream, are not forwarded by the reference node", method)
	}

	request, err := protoregistry.GlobalTypes.FindMessageByName(described.Input().FullName())
	if err != nil {
		return call{}, status.Errorf(codes.Internal, "request of %s: %s", method, err)
	}

	reply, err := protoregistry.GlobalTypes.FindMessageByName(described.Output().FullName())
	if err != nil {
		return call{}, status.Errorf(codes.Internal, "reply of %s: %s", method, err)
	}

	return call{
		request: func() proto.Message { return request.New().Interface() },
		reply:   func() proto.Message { return reply.New().Interface() },
	}, nil
}

// parts is the field of a reply that holds the parts of the nodes: by convention of the API, its first.
func parts(reply proto.Message) (protoreflect.List, bool) {
	field := reply.ProtoReflect().Descriptor().Fields().ByNumber(1)
	if field == nil || !field.IsList() || field.Message() == nil {
		return nil, false
	}

	return reply.ProtoReflect().Mutable(field).List(), true
}

// appendPart adds an empty part, which then tells an error.
func appendPart(reply proto.Message) {
	if list, ok := parts(reply); ok {
		list.AppendMutable()
	}
}

func tagParts(reply proto.Message, node string, problem error) {
	list, ok := parts(reply)
	if !ok {
		return
	}

	for i := range list.Len() {
		tag(list.Get(i).Message(), node, problem)
	}
}

// tag writes the name of a node, and why it did not answer, into the metadata of its message.
func tag(message protoreflect.Message, node string, problem error) {
	field := message.Descriptor().Fields().ByName("metadata")
	if field == nil || field.Message() == nil {
		return
	}

	// A message in a stream may tell an error of its own.
	metadata, ok := message.Mutable(field).Message().Interface().(*common.Metadata)
	if !ok {
		return
	}

	metadata.Hostname = node

	if problem != nil {
		metadata.Error = fmt.Sprint(problem)
		metadata.Status = status.Convert(problem).Proto()
	}
}
