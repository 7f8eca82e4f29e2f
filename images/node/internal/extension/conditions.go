package extension

import (
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/talos/pkg/machinery/extensions/services"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	timeres "github.com/siderolabs/talos/pkg/machinery/resources/time"

	"lab/images/node/internal/supervise"
)

// Conditions turns what a spec depends on into conditions. Those on resources are machinery's own, so that a service
// waits for the same thing, and says so in the same words, as in Talos. up is the condition that a service is up.
func Conditions(spec services.Spec, resources state.State, up func(id string) supervise.Condition) []supervise.Condition {
	var out []supervise.Condition

	if file := spec.Container.EnvironmentFile; file != "" {
		out = append(out, supervise.PathExists(file))
	}

	for _, d := range spec.Depends {
		switch { // a valid dependency has exactly one field
		case d.Service != "":
			out = append(out, up(d.Service))
		case d.Path != "":
			out = append(out, supervise.PathExists(d.Path))
		case len(d.Network) > 0:
			out = append(out, network.NewReadyCondition(resources, network.StatusChecksFromStatuses(d.Network...)...))
		case d.Time:
			out = append(out, timeres.NewSyncCondition(resources))
		case d.Configuration:
			out = append(out, runtime.NewExtensionServiceConfigStatusCondition(resources, spec.Name))
		}
	}

	return out
}

// Restart is the supervisor's policy for a spec.
func Restart(kind services.RestartKind) supervise.Restart {
	switch kind {
	case services.RestartNever:
		return supervise.RestartNever
	case services.RestartUntilSuccess:
		return supervise.RestartUntilSuccess
	default:
		return supervise.RestartAlways
	}
}
