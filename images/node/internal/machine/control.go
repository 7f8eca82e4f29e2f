package machine

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/console"
	"lab/images/node/internal/disk"
	"lab/images/node/internal/kube"
)

// Hostname is the node's name without its domain.
func (m *Machine) Hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return m.lease.Hostname
	}

	return name
}

// IsControlPlane tells the role of a node that has a config.
func (m *Machine) IsControlPlane() bool { return m.config().Machine().Type().IsControlPlane() }

// Kubernetes is a client of the node's own API server.
func (m *Machine) Kubernetes() *kube.Client { return m.adminClient() }

// Bootstrap lets etcd start as the first member of a new cluster.
func (m *Machine) Bootstrap(_ context.Context, request *machineapi.BootstrapRequest) error {
	m.mu.Lock()
	booted := m.booted
	m.mu.Unlock()

	if !booted {
		return status.Error(codes.FailedPrecondition, "bootstrap is not available yet")
	}

	if !m.config().Machine().Type().IsControlPlane() {
		return status.Error(codes.FailedPrecondition, "bootstrap is only available on control plane nodes")
	}

	if !m.timeSynced.IsOpen() {
		return status.Error(codes.FailedPrecondition, "time is not in sync yet")
	}

	if m.bootstrapped.IsOpen() {
		return status.Error(codes.AlreadyExists, "etcd data directory is not empty")
	}

	if request.GetRecoverEtcd() {
		return status.Error(codes.Unimplemented, "recovery of etcd from a snapshot is not part of the reference node")
	}

	console.Printf("bootstrap request received")
	console.Milestone("bootstrap")
	m.bootstrapped.Open()

	return nil
}

// Kubeconfig makes an administrator's kubeconfig; the API server need not be up for it.
func (m *Machine) Kubeconfig() ([]byte, error) {
	if !m.config().Machine().Type().IsControlPlane() {
		return nil, status.Error(codes.FailedPrecondition, "kubeconfig is only available on control plane nodes")
	}

	content, err := kube.AdminKubeconfig(m.config())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	return content, nil
}

// Reboot restarts the machine once the answer of the call has gone out. It returns the id of the events that it causes, as
// do Shutdown and Reset.
func (m *Machine) Reboot(reason string) (string, error) {
	return m.end("reboot", reason, runtime.MachineStageRebooting, unix.LINUX_REBOOT_CMD_RESTART, nil)
}

// Shutdown powers the machine off.
func (m *Machine) Shutdown() (string, error) {
	return m.end("shutdown", "", runtime.MachineStageShuttingDown, unix.LINUX_REBOOT_CMD_POWER_OFF, nil)
}

// Reset wipes STATE and EPHEMERAL, or those of them that the request names, and restarts or powers off.
func (m *Machine) Reset(request *machineapi.ResetRequest) (string, error) {
	var labels []string

	for _, p := range request.GetSystemPartitionsToWipe() {
		if p.GetLabel() != disk.State && p.GetLabel() != disk.Ephemeral {
			return "", status.Errorf(codes.InvalidArgument, "partition %q cannot be wiped: there are %s and %s", p.GetLabel(), disk.State, disk.Ephemeral)
		}

		labels = append(labels, p.GetLabel())
	}

	if len(request.GetUserDisksToWipe()) > 0 {
		return "", status.Error(codes.Unimplemented, "wiping user disks is not part of the reference node")
	}

	if len(labels) == 0 {
		labels = []string{disk.State, disk.Ephemeral}
	}

	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	if request.GetReboot() {
		command = unix.LINUX_REBOOT_CMD_RESTART
	}

	return m.end("reset", "", runtime.MachineStageResetting, command, func() error { return m.disk.Wipe(labels...) })
}

// end takes the machine down: services first, then what is left, then the file systems.
func (m *Machine) end(sequence, reason string, stage runtime.MachineStage, command int, last func() error) (string, error) {
	m.mu.Lock()
	if m.ending {
		m.mu.Unlock()

		return "", status.Error(codes.FailedPrecondition, "the machine is going down already")
	}

	m.ending = true
	m.mu.Unlock()

	actor := uuid.NewString()

	console.Printf("%s sequence: starting %s", sequence, reason)
	m.events.PublishOf(actor, &machineapi.SequenceEvent{Sequence: sequence, Action: machineapi.SequenceEvent_START})
	m.setStage(stage)

	go func() {
		time.Sleep(200 * time.Millisecond) // the only way to let the answer of the call that asked for this go out

		// talosctl waits for this task when it powers a node off.
		m.events.PublishOf(actor, &machineapi.TaskEvent{Task: "stopAllServices", Action: machineapi.TaskEvent_START})
		m.services.StopAll("apid", "machined")
		killAll()

		for _, dir := range []string{ephemeralDir, stateDir} {
			if err := unmount(dir); err != nil {
				console.Printf("unmount %s: %v", dir, err)
			}
		}

		unix.Sync()

		if last != nil {
			if err := last(); err != nil {
				console.Printf("%s: %v", sequence, err)
			}
		}

		console.Milestone(sequence)

		if err := unix.Reboot(command); err != nil {
			console.Printf("%s: %v", sequence, err)
			os.Exit(1) // a kernel panic; with panic=N the machine restarts nevertheless
		}
	}()

	return actor, nil
}

// killAll ends every process but the agent and the kernel's threads: containers and their shims.
func killAll() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}

	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 {
			continue
		}

		if _, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil { // kernel threads have none
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// unmount detaches a file system after everything that is mounted below it; a busy one is made read-only at least.
func unmount(dir string) error {
	for range 20 {
		err := unix.Unmount(dir, unix.MNT_DETACH)
		if err == nil || errors.Is(err, unix.EINVAL) {
			return nil
		}

		time.Sleep(50 * time.Millisecond)
	}

	return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
}
