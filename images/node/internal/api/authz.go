package api

import (
	"context"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/bootargs"
)

var (
	readers     = role.MakeSet(role.Admin, role.Operator, role.Reader)
	etcdReaders = role.MakeSet(role.Admin, role.Operator, role.Reader, role.EtcdBackup)
	operators   = role.MakeSet(role.Admin, role.Operator)
	admins      = role.MakeSet(role.Admin)
)

// rules say who may call what; methods that are not listed are for administrators. The table is Talos' (machined's
// rules), cut to the calls that exist here.
var rules = map[string]role.Set{
	"/cluster.ClusterService/HealthCheck":        readers,
	"/cosi.resource.State/Get":                   readers,
	"/cosi.resource.State/List":                  readers,
	"/cosi.resource.State/Watch":                 readers,
	"/machine.ImageService/List":                 readers,
	"/machine.MachineService/ApplyConfiguration": readers, // dry runs; applying checks for admin itself
	"/machine.MachineService/CPUFreqStats":       readers,
	"/machine.MachineService/CPUInfo":            readers,
	"/machine.MachineService/Containers":         readers,
	"/machine.MachineService/DiskStats":          readers,
	"/machine.MachineService/DiskUsage":          readers,
	"/machine.MachineService/Dmesg":              readers,
	"/machine.MachineService/EtcdAlarmList":      etcdReaders,
	"/machine.MachineService/EtcdMemberList":     etcdReaders,
	"/machine.MachineService/EtcdStatus":         etcdReaders,
	"/machine.MachineService/Events":             readers,
	"/machine.MachineService/Hostname":           readers,
	"/machine.MachineService/ImageList":          readers,
	"/machine.MachineService/ImagePull":          operators,
	"/machine.MachineService/List":               readers,
	"/machine.MachineService/LoadAvg":            readers,
	"/machine.MachineService/Logs":               readers,
	"/machine.MachineService/LogsContainers":     readers,
	"/machine.MachineService/Memory":             readers,
	"/machine.MachineService/Mounts":             readers,
	"/machine.MachineService/Netstat":            readers,
	"/machine.MachineService/NetworkDeviceStats": readers,
	"/machine.MachineService/Processes":          readers,
	"/machine.MachineService/Reboot":             operators,
	"/machine.MachineService/ServiceList":        readers,
	"/machine.MachineService/ServiceRestart":     operators,
	"/machine.MachineService/ServiceStart":       operators,
	"/machine.MachineService/ServiceStop":        operators,
	"/machine.MachineService/Shutdown":           operators,
	"/machine.MachineService/Stats":              readers,
	"/machine.MachineService/SystemStat":         readers,
	"/machine.MachineService/Version":            readers,
	"/storage.StorageService/Disks":              readers,
	"/time.TimeService/Time":                     readers,
}

// olderMaintenanceCalls are what the maintenance service of Talos before 1.13 answers (internal/app/maintenance). Since
// then apid runs in maintenance mode.
var olderMaintenanceCalls = []string{
	"/machine.MachineService/ApplyConfiguration", "/storage.StorageService/Disks",
	"/cosi.resource.State/Get", "/cosi.resource.State/List", "/cosi.resource.State/Watch",
}

// maintenanceCalls are what a node without a config answers, by generation of Talos.
var maintenanceCalls = map[bootargs.Contract][]string{
	bootargs.ContractV111: olderMaintenanceCalls,
	bootargs.ContractV112: olderMaintenanceCalls,
	bootargs.ContractV113: {
		"/machine.MachineService/ApplyConfiguration", "/storage.StorageService/Disks",
		"/cosi.resource.State/Get", "/cosi.resource.State/List", "/cosi.resource.State/Watch",
		"/machine.MachineService/Version", "/machine.MachineService/Dmesg", "/machine.MachineService/Logs",
		"/machine.MachineService/Events", "/machine.MachineService/ServiceList",
	},
}

// Access is who may call a server, and which node answers.
type Access struct {
	// Maintenance serves anybody, but few calls.
	Maintenance bool
	Contract    bootargs.Contract
	// Own are the names and addresses of this node.
	Own func() []string
	// Forwarder carries calls to the nodes that they name. Only control planes have one.
	Forwarder *Forwarder
}

// Check decides whether a caller with these roles may use a method. It is a pure function.
func (a Access) Check(method string, roles role.Set) error {
	if a.Maintenance {
		if !slices.Contains(maintenanceCalls[a.Contract], method) {
			return status.Error(codes.Unimplemented, "API is not implemented in maintenance mode")
		}

		return nil
	}

	allowed, ok := rules[method]
	if !ok {
		allowed = admins
	}

	if !roles.IncludesAny(allowed) {
		return status.Error(codes.PermissionDenied, "not authorized")
	}

	return nil
}

// Target says which nodes answer a call.
type Target struct {
	// Nodes answer, or this node if there are none.
	Nodes []string
	// Many nodes answer in one reply, each with its name and its error in the metadata of its part.
	Many bool
}

// manyServices are the services whose replies consist of parts (apid's director).
var manyServices = []string{
	"/machine.MachineService/", "/cluster.ClusterService/", "/inspect.InspectService/", "/storage.StorageService/", "/time.TimeService/",
}

// Route decides which nodes answer a call, from its metadata. It is a pure function, and follows apid's director.
func (a Access) Route(method string, md metadata.MD) (Target, error) {
	node, nodes := md.Get("node"), md.Get("nodes")

	if a.Maintenance || len(md.Get(proxiedFrom)) > 0 || len(node)+len(nodes) == 0 {
		return Target{}, nil
	}

	if len(node) > 1 {
		return Target{}, status.Error(codes.InvalidArgument, "node metadata must be single-valued")
	}

	if a.Forwarder == nil {
		if all := slices.Concat(node, nodes); len(all) == 1 && slices.Contains(a.Own(), all[0]) {
			return Target{}, nil
		}

		return Target{}, status.Error(codes.PermissionDenied, "no request forwarding")
	}

	if len(nodes) == 0 {
		return Target{Nodes: node}, nil
	}

	if !slices.ContainsFunc(manyServices, func(service string) bool { return strings.HasPrefix(method, service) }) {
		return Target{}, status.Errorf(codes.InvalidArgument, "one-2-many proxying is not supported for method %s", method)
	}

	return Target{Nodes: nodes, Many: true}, nil
}

// callerRoles takes the roles from the organizations of the caller's verified certificate. Another node of the cluster
// may speak for a caller of its own.
func callerRoles(ctx context.Context) role.Set {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return role.Zero
	}

	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return role.Zero
	}

	md, _ := metadata.FromIncomingContext(ctx)

	return effectiveRoles(info.State.PeerCertificates[0].Subject.Organization, md.Get(constants.APIAuthzRoleMetadataKey))
}

// effectiveRoles are the roles of a certificate; with the role of a node, those that the node claims for its caller.
func effectiveRoles(certificate, claimed []string) role.Set {
	roles, _ := role.Parse(certificate)
	if roles.Includes(role.Impersonator) && len(claimed) > 0 {
		roles, _ = role.Parse(claimed)
	}

	return roles
}

// IsAdmin tells whether a call comes from an administrator.
func IsAdmin(ctx context.Context) bool { return callerRoles(ctx).Includes(role.Admin) }

func (a Access) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)

	target, err := a.Route(info.FullMethod, md)
	if err != nil {
		return nil, err
	}

	if len(target.Nodes) > 0 {
		return a.Forwarder.unary(ctx, request, info.FullMethod, target)
	}

	if err := a.Check(info.FullMethod, callerRoles(ctx)); err != nil {
		return nil, err
	}

	return next(ctx, request)
}

func (a Access) stream(server any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	md, _ := metadata.FromIncomingContext(s.Context())

	target, err := a.Route(info.FullMethod, md)
	if err != nil {
		return err
	}

	if len(target.Nodes) > 0 {
		return a.Forwarder.stream(s, info.FullMethod, target)
	}

	if err := a.Check(info.FullMethod, callerRoles(s.Context())); err != nil {
		return err
	}

	return next(server, s)
}
