package api

import (
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/bootargs"
)

func TestAccess(t *testing.T) {
	own := func() []string { return []string{"10.5.0.2", "cp1"} }
	controlPlane := Access{ControlPlane: true, Own: own}
	worker := Access{Own: own}
	older := Access{Maintenance: true, Contract: bootargs.ContractV111}
	newer := Access{Maintenance: true, Contract: bootargs.ContractV113}
	admin, operator, reader := role.MakeSet(role.Admin), role.MakeSet(role.Operator), role.MakeSet(role.Reader)

	for name, tc := range map[string]struct {
		access Access
		method string
		roles  role.Set
		nodes  []string
		want   codes.Code
	}{
		"admin bootstraps":                      {controlPlane, "/machine.MachineService/Bootstrap", admin, nil, codes.OK},
		"operator must not bootstrap":           {controlPlane, "/machine.MachineService/Bootstrap", operator, nil, codes.PermissionDenied},
		"reader must not bootstrap":             {controlPlane, "/machine.MachineService/Bootstrap", reader, nil, codes.PermissionDenied},
		"reader reads":                          {controlPlane, "/cosi.resource.State/Get", reader, nil, codes.OK},
		"reader must not reboot":                {controlPlane, "/machine.MachineService/Reboot", reader, nil, codes.PermissionDenied},
		"operator reboots":                      {controlPlane, "/machine.MachineService/Reboot", operator, nil, codes.OK},
		"reader must not read files":            {controlPlane, "/machine.MachineService/Read", reader, nil, codes.PermissionDenied},
		"operator must not read files":          {controlPlane, "/machine.MachineService/Read", operator, nil, codes.PermissionDenied},
		"admin reads files":                     {controlPlane, "/machine.MachineService/Read", admin, nil, codes.OK},
		"reader lists":                          {controlPlane, "/machine.MachineService/List", reader, nil, codes.OK},
		"v1.11 maintenance reads no files":      {older, "/machine.MachineService/Read", role.Zero, nil, codes.Unimplemented},
		"v1.13 maintenance reads no files":      {newer, "/machine.MachineService/Read", role.Zero, nil, codes.Unimplemented},
		"v1.13 maintenance lists no files":      {newer, "/machine.MachineService/List", role.Zero, nil, codes.Unimplemented},
		"nobody reads nothing":                  {controlPlane, "/machine.MachineService/Version", role.Zero, nil, codes.PermissionDenied},
		"unknown method is for admins":          {controlPlane, "/machine.MachineService/New", operator, nil, codes.PermissionDenied},
		"control plane knows itself by address": {controlPlane, "/machine.MachineService/Version", admin, []string{"10.5.0.2"}, codes.OK},
		"control plane does not forward":        {controlPlane, "/machine.MachineService/Version", admin, []string{"10.5.0.3"}, codes.Unimplemented},
		"worker refuses any node metadata":      {worker, "/machine.MachineService/Version", admin, []string{"10.5.0.2"}, codes.PermissionDenied},
		"v1.11 maintenance applies":             {older, "/machine.MachineService/ApplyConfiguration", role.Zero, nil, codes.OK},
		"v1.11 maintenance has no version":      {older, "/machine.MachineService/Version", role.Zero, nil, codes.Unimplemented},
		"v1.13 maintenance has a version":       {newer, "/machine.MachineService/Version", role.Zero, nil, codes.OK},
		"v1.13 maintenance does not bootstrap":  {newer, "/machine.MachineService/Bootstrap", role.Zero, nil, codes.Unimplemented},
	} {
		t.Run(name, func(t *testing.T) {
			if got := status.Code(tc.access.Check(tc.method, tc.roles, tc.nodes)); got != tc.want {
				t.Fatalf("got %s, want %s", got, tc.want)
			}
		})
	}
}
