package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Logs streams the output of a service, or of a container of a pod.
func (m *Machine) Logs(request *machineapi.LogsRequest, stream machineapi.MachineService_LogsServer) error {
	if request.GetNamespace() == constants.K8sContainerdNamespace && request.GetId() != "kubelet" {
		return podLogs(request, stream)
	}

	buffer, ok := m.Logstore.Find(request.GetId())
	if !ok {
		return status.Errorf(codes.NotFound, "log %q was not registered; there are %s", request.GetId(), strings.Join(m.Logstore.IDs(), ", "))
	}

	return buffer.Stream(stream.Context(), int(request.GetTailLines()), request.GetFollow(), func(p []byte) error {
		return stream.Send(&common.Data{Bytes: p})
	})
}

// LogsContainers lists the services that have logs.
func (m *Machine) LogsContainers(context.Context, *emptypb.Empty) (*machineapi.LogsContainersResponse, error) {
	return &machineapi.LogsContainersResponse{Messages: []*machineapi.LogsContainer{{Ids: m.Logstore.IDs()}}}, nil
}

// Events streams what happens on the node.
func (m *Machine) Events(request *machineapi.EventsRequest, stream machineapi.MachineService_EventsServer) error {
	return m.Stream.Stream(stream.Context(), int(request.GetTailEvents()), request.GetTailId(), stream.Send)
}

// Dmesg streams the kernel log.
func (m *Machine) Dmesg(request *machineapi.DmesgRequest, stream machineapi.MachineService_DmesgServer) error {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return status.Errorf(codes.Internal, "open the kernel log: %s", err)
	}
	defer f.Close()

	whence := io.SeekStart
	if request.GetTail() {
		whence = io.SeekEnd
	}

	if _, err := f.Seek(0, whence); err != nil {
		return status.Errorf(codes.Internal, "position in the kernel log: %s", err)
	}

	boot := time.Now().Add(-time.Duration(bootNanoseconds()))
	record := make([]byte, 8192) // one read is one record

	if request.GetFollow() {
		// The read of a follower ends with its stream.
		stop := context.AfterFunc(stream.Context(), func() { _ = f.SetReadDeadline(time.Now()) })
		defer stop()
	} else {
		_ = f.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	}

	for {
		n, err := f.Read(record)

		switch {
		case err == nil:
			if line := formatKmsg(record[:n], boot); line != nil {
				if err := stream.Send(&common.Data{Bytes: line}); err != nil {
					return err
				}
			}
		case errors.Is(err, unix.EPIPE): // records were overwritten while reading
		case errors.Is(err, unix.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			return status.Errorf(codes.Internal, "read the kernel log: %s", err)
		}
	}
}

func bootNanoseconds() int64 {
	var ts unix.Timespec

	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)

	return ts.Nano()
}

var (
	facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv"}
	severities = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
)

// formatKmsg turns a record "prefix;message\n KEY=value" (Documentation/ABI/testing/dev-kmsg) into Talos' line.
func formatKmsg(record []byte, boot time.Time) []byte {
	prefix, rest, found := bytes.Cut(record, []byte(";"))
	if !found {
		return nil
	}

	message, _, _ := bytes.Cut(rest, []byte("\n"))

	fields := strings.SplitN(string(prefix), ",", 4)
	if len(fields) < 3 {
		return nil
	}

	priority, _ := strconv.Atoi(fields[0])
	microseconds, _ := strconv.ParseInt(fields[2], 10, 64)
	facility := "local"

	if i := priority >> 3; i < len(facilities) {
		facility = facilities[i]
	}

	stamp := boot.Add(time.Duration(microseconds) * time.Microsecond)

	return []byte(facility + ": " + severities[priority&7] + ": [" + stamp.UTC().Format(time.RFC3339Nano) + "]: " + string(message) + "\n")
}
