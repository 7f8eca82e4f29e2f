package api

import (
	"context"
	"slices"
	"strings"

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
	readers   = role.MakeSet(role.Admin, role.Operator, role.Reader)
	operators = role.MakeSet(role.Admin, role.Operator)
	admins    = role.MakeSet(role.Admin)
)

// rules say who may call what; methods that are not listed are for administrators. The table is Talos' (machined's
// rules), cut to the calls that exist here.
var rules = map[string]role.Set{
	"/cosi.resource.State/Get":                   readers,
	"/cosi.resource.State/List":                  readers,
	"/cosi.resource.State/Watch":                 readers,
	"/machine.MachineService/ApplyConfiguration": readers, // dry runs; applying checks for admin itself
	"/machine.MachineService/Dmesg":              readers,
	"/machine.MachineService/Events":             readers,
	"/machine.MachineService/Hostname":           readers,
	"/machine.MachineService/ImageList":          readers,
	"/machine.MachineService/List":               readers,
	"/machine.MachineService/LoadAvg":            readers,
	"/machine.MachineService/Logs":               readers,
	"/machine.MachineService/LogsContainers":     readers,
	"/machine.MachineService/Memory":             readers,
	"/machine.MachineService/Processes":          readers,
	"/machine.MachineService/Reboot":             operators,
	"/machine.MachineService/ServiceList":        readers,
	"/machine.MachineService/ServiceRestart":     operators,
	"/machine.MachineService/ServiceStart":       operators,
	"/machine.MachineService/ServiceStop":        operators,
	"/machine.MachineService/Shutdown":           operators,
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

// Access is who may call a server.
type Access struct {
	// Maintenance serves anybody, but few calls.
	Maintenance bool
	Contract    bootargs.Contract
	// ControlPlane nodes accept requests that name nodes; workers refuse them.
	ControlPlane bool
	// Own are the names and addresses of this node.
	Own func() []string
}

// Check decides on one call. It is a pure function of the call: method, roles of the caller, nodes that it names.
func (a Access) Check(method string, roles role.Set, nodes []string) error {
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

	if len(nodes) == 0 {
		return nil
	}

	if !a.ControlPlane {
		return status.Error(codes.PermissionDenied, "no request forwarding")
	}

	own := a.Own()

	for _, n := range nodes {
		if !slices.Contains(own, n) {
			return status.Errorf(codes.Unimplemented, "the reference node does not forward requests: dial %s itself, without node metadata (this node is %s)", n, strings.Join(own, ", "))
		}
	}

	return nil
}

func (a Access) authorize(ctx context.Context, method string) error {
	return a.Check(method, callerRoles(ctx), namedNodes(ctx))
}

// callerRoles takes the roles from the organizations of the caller's verified certificate.
func callerRoles(ctx context.Context) role.Set {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return role.Zero
	}

	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return role.Zero
	}

	roles, _ := role.Parse(info.State.PeerCertificates[0].Subject.Organization)

	return roles
}

// IsAdmin tells whether a call comes from an administrator.
func IsAdmin(ctx context.Context) bool { return callerRoles(ctx).Includes(role.Admin) }

func namedNodes(ctx context.Context) []string {
	md, _ := metadata.FromIncomingContext(ctx)

	var nodes []string

	for _, key := range []string{"node", "nodes"} {
		for _, value := range md.Get(key) {
			nodes = append(nodes, strings.Split(value, ",")...)
		}
	}

	return nodes
}

func (a Access) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := a.authorize(ctx, info.FullMethod); err != nil {
		return nil, err
	}

	return next(ctx, request)
}

func (a Access) stream(server any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := a.authorize(s.Context(), info.FullMethod); err != nil {
		return err
	}

	return next(server, s)
}
