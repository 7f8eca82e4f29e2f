package machine

import (
	"fmt"
	"reflect"
	"strings"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"lab/images/node/internal/console"
	"lab/images/node/internal/supervise"
)

// setStage changes the stage of the machine.
func (m *Machine) setStage(stage runtime.MachineStage) {
	m.mu.Lock()
	m.stage = stage
	m.mu.Unlock()

	m.refreshStatus()
}

// nodeStatus is told what the cluster says about this node.
func (m *Machine) nodeStatus(status k8s.NodeStatusSpec) {
	m.store.NodeStatus(status)

	m.mu.Lock()
	first := !m.nodeSeen
	becameReady := status.NodeReady && !m.ready
	m.nodeSeen, m.ready = true, status.NodeReady
	m.mu.Unlock()

	if first {
		console.Milestone("node-registered")
	}

	if becameReady {
		console.Milestone("node-ready")
		m.settled.Open()
	}

	m.refreshStatus()
}

// requiredServices must run for a machine to be ready; as in Talos' MachineStatusController.
func requiredServices(controlPlane bool) []string {
	if controlPlane {
		return []string{"apid", "machined", "kubelet", "etcd", "trustd"}
	}

	return []string{"apid", "machined", "kubelet"}
}

// refreshStatus computes what keeps the machine from being ready and publishes it when it changed.
func (m *Machine) refreshStatus() {
	services := m.services.List()

	m.mu.Lock()
	spec := runtime.MachineStatusSpec{Stage: m.stage}

	if m.stage == runtime.MachineStageBooting || m.stage == runtime.MachineStageRunning {
		unmet := unmetConditions(services, m.cfg != nil && m.cfg.Machine().Type().IsControlPlane(), m.timeSynced.IsOpen())

		if m.cfg != nil && m.node.Name != "" {
			switch {
			case !m.nodeSeen:
				unmet = append(unmet, runtime.UnmetCondition{Name: "nodeReady", Reason: fmt.Sprintf("node %q status is not available yet", m.node.Name)})
			case !m.ready:
				unmet = append(unmet, runtime.UnmetCondition{Name: "nodeReady", Reason: fmt.Sprintf("node %q is not ready", m.node.Name)})
			}
		}

		spec.Status.UnmetConditions = unmet
	}

	spec.Status.Ready = len(spec.Status.UnmetConditions) == 0

	changed := !reflect.DeepEqual(spec, m.last)
	m.last = spec

	up := spec.Stage == runtime.MachineStageRunning && spec.Status.Ready && !m.saidUp
	m.saidUp = m.saidUp || up

	if changed { // published under the lock, so that an older status cannot overtake a newer one
		m.store.MachineStatus(spec.Stage, spec.Status.UnmetConditions)
		m.events.Publish(statusEvent(spec))
	}
	m.mu.Unlock()

	if up {
		console.Printf("machine is running and ready")
		console.Milestone("machine-ready")
	}
}

// unmetConditions is a pure function of the services' states.
func unmetConditions(services []supervise.Status, controlPlane, timeSynced bool) []runtime.UnmetCondition {
	var unmet []runtime.UnmetCondition

	if !timeSynced {
		unmet = append(unmet, runtime.UnmetCondition{Name: "time", Reason: "time is not synced"})
	}

	running := map[string]bool{}

	var problems, pods []string

	for _, s := range services {
		running[s.ID] = s.State == supervise.StateRunning

		switch {
		case s.Background && !running[s.ID]:
			pods = append(pods, s.ID+" not running")
		case s.Background && !s.Up():
			pods = append(pods, s.ID+" not ready")
		case running[s.ID] && !s.Up():
			problems = append(problems, s.ID+" not healthy")
		}
	}

	for _, id := range requiredServices(controlPlane) {
		if !running[id] {
			problems = append(problems, id+" not running")
		}
	}

	if len(problems) > 0 {
		unmet = append(unmet, runtime.UnmetCondition{Name: "services", Reason: strings.Join(problems, ", ")})
	}

	// Processes here, static pods in Talos; the name of the condition is kept so that one reader fits both.
	if len(pods) > 0 {
		unmet = append(unmet, runtime.UnmetCondition{Name: "staticPods", Reason: strings.Join(pods, ", ")})
	}

	return unmet
}

func statusEvent(spec runtime.MachineStatusSpec) *machineapi.MachineStatusEvent {
	event := &machineapi.MachineStatusEvent{
		Stage:  machineapi.MachineStatusEvent_MachineStage(spec.Stage),
		Status: &machineapi.MachineStatusEvent_MachineStatus{Ready: spec.Status.Ready},
	}

	for _, c := range spec.Status.UnmetConditions {
		event.Status.UnmetConditions = append(event.Status.UnmetConditions, &machineapi.MachineStatusEvent_MachineStatus_UnmetCondition{Name: c.Name, Reason: c.Reason})
	}

	return event
}
