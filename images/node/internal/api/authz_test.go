package api

import (
	"slices"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/bootargs"
)

func TestCallsAreForTheirRoles(t *testing.T) {
	node := Access{}
	older := Access{Maintenance: true, Contract: bootargs.ContractV111}
	newer := Access{Maintenance: true, Contract: bootargs.ContractV113}
	admin, operator, reader := role.MakeSet(role.Admin), role.MakeSet(role.Operator), role.MakeSet(role.Reader)

	for name, tc := range map[string]struct {
		access Access
		method string
		roles  role.Set
		want   codes.Code
	}{
		"admin bootstraps":                     {node, "/machine.MachineService/Bootstrap", admin, codes.OK},
		"operator must not bootstrap":          {node, "/machine.MachineService/Bootstrap", operator, codes.PermissionDenied},
		"reader must not bootstrap":            {node, "/machine.MachineService/Bootstrap", reader, codes.PermissionDenied},
		"reader reads":                         {node, "/cosi.resource.State/Get", reader, codes.OK},
		"reader must not reboot":               {node, "/machine.MachineService/Reboot", reader, codes.PermissionDenied},
		"operator reboots":                     {node, "/machine.MachineService/Reboot", operator, codes.OK},
		"reader must not read files":           {node, "/machine.MachineService/Read", reader, codes.PermissionDenied},
		"reader must not copy files":           {node, "/machine.MachineService/Copy", reader, codes.PermissionDenied},
		"operator must not read files":         {node, "/machine.MachineService/Read", operator, codes.PermissionDenied},
		"admin reads files":                    {node, "/machine.MachineService/Read", admin, codes.OK},
		"reader lists":                         {node, "/machine.MachineService/List", reader, codes.OK},
		"reader sees containers":               {node, "/machine.MachineService/Containers", reader, codes.OK},
		"v1.11 maintenance reads no files":     {older, "/machine.MachineService/Read", role.Zero, codes.Unimplemented},
		"v1.13 maintenance reads no files":     {newer, "/machine.MachineService/Read", role.Zero, codes.Unimplemented},
		"v1.13 maintenance lists no files":     {newer, "/machine.MachineService/List", role.Zero, codes.Unimplemented},
		"nobody reads nothing":                 {node, "/machine.MachineService/Version", role.Zero, codes.PermissionDenied},
		"unknown method is for admins":         {node, "/machine.MachineService/New", operator, codes.PermissionDenied},
		"v1.11 maintenance applies":            {older, "/machine.MachineService/ApplyConfiguration", role.Zero, codes.OK},
		"v1.11 maintenance has no version":     {older, "/machine.MachineService/Version", role.Zero, codes.Unimplemented},
		"v1.13 maintenance has a version":      {newer, "/machine.MachineService/Version", role.Zero, codes.OK},
		"v1.13 maintenance does not bootstrap": {newer, "/machine.MachineService/Bootstrap", role.Zero, codes.Unimplemented},
	} {
		t.Run(name, func(t *testing.T) {
			if got := status.Code(tc.access.Check(tc.method, tc.roles)); got != tc.want {
				t.Fatalf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestCallsGoToTheNodesThatTheyName(t *testing.T) {
	own := func() []string { return []string{"10.5.0.2", "cp1"} }
	controlPlane := Access{Own: own, Forwarder: &Forwarder{}}
	worker := Access{Own: own}
	version, get := "/machine.MachineService/Version", "/cosi.resource.State/Get"

	for name, tc := range map[string]struct {
		access Access
		method string
		md     metadata.MD
		want   Target
		code   codes.Code
	}{
		"no node is this node":                         {controlPlane, version, metadata.Pairs(), Target{}, codes.OK},
		"a control plane asks the node that is named":  {controlPlane, get, metadata.Pairs("node", "10.5.0.3"), Target{Nodes: []string{"10.5.0.3"}}, codes.OK},
		"a control plane asks all nodes":               {controlPlane, version, metadata.Pairs("nodes", "10.5.0.2", "nodes", "10.5.0.3"), Target{Nodes: []string{"10.5.0.2", "10.5.0.3"}, Many: true}, codes.OK},
		"a forwarded call is not forwarded again":      {controlPlane, get, metadata.Pairs("node", "10.5.0.3", "proxyfrom", "cp2"), Target{}, codes.OK},
		"one resource is of one node":                  {controlPlane, get, metadata.Pairs("nodes", "10.5.0.3"), Target{}, codes.InvalidArgument},
		"node has one value":                           {controlPlane, get, metadata.Pairs("node", "10.5.0.2", "node", "10.5.0.3"), Target{}, codes.InvalidArgument},
		"a worker does not forward":                    {worker, version, metadata.Pairs("node", "10.5.0.3"), Target{}, codes.PermissionDenied},
		"a worker does not forward to several nodes":   {worker, version, metadata.Pairs("nodes", "10.5.0.2", "nodes", "10.5.0.3"), Target{}, codes.PermissionDenied},
		"a worker that is named itself answers":        {worker, version, metadata.Pairs("nodes", "10.5.0.2"), Target{}, codes.OK},
		"a node in maintenance mode answers by itself": {Access{Maintenance: true}, version, metadata.Pairs("node", "10.5.0.3"), Target{}, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.access.Route(tc.method, tc.md)
			if status.Code(err) != tc.code {
				t.Fatalf("got %v, want %s", err, tc.code)
			}

			if !slices.Equal(got.Nodes, tc.want.Nodes) || got.Many != tc.want.Many {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestOnlyNodesSpeakForOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		certificate, claimed []string
		admin                bool
	}{
		"an administrator":                        {[]string{"os:admin"}, nil, true},
		"a reader that claims to be one":          {[]string{"os:reader"}, []string{"os:admin"}, false},
		"a node that forwards an administrator":   {[]string{"os:impersonator"}, []string{"os:admin"}, true},
		"a node that forwards a reader":           {[]string{"os:impersonator"}, []string{"os:reader"}, false},
		"a node that asks for itself":             {[]string{"os:impersonator"}, nil, false},
		"an administrator that claims to be less": {[]string{"os:admin"}, []string{"os:reader"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := effectiveRoles(tc.certificate, tc.claimed).Includes(role.Admin); got != tc.admin {
				t.Fatalf("administrator: got %v, want %v", got, tc.admin)
			}
		})
	}
}
