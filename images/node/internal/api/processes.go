package api

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	storageapi "github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"lab/images/node/internal/disk"
)

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Linux runs Go on.
const ticksPerSecond = 100

// Processes lists the processes of the node, those in containers included.
func (m *Machine) Processes(context.Context, *emptypb.Empty) (*machineapi.ProcessesResponse, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	out := &machineapi.Process{}

	for _, dir := range dirs {
		if p := processInfo(dir); p != nil { // nil: it ended meanwhile
			out.Processes = append(out.Processes, p)
		}
	}

	return &machineapi.ProcessesResponse{Messages: []*machineapi.Process{out}}, nil
}

func processInfo(dir string) *machineapi.ProcessInfo {
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil
	}

	// The name is in parentheses and may hold anything, so fields count from the last parenthesis (proc(5)).
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return nil
	}

	fields := strings.Fields(string(b[end+1:]))
	if len(fields) < 22 {
		return nil
	}

	number := func(i int) uint64 {
		n, _ := strconv.ParseUint(fields[i], 10, 64)

		return n
	}

	pid, _ := strconv.Atoi(filepath.Base(dir))
	args, _ := os.ReadFile(dir + "/cmdline")
	executable, _ := os.Readlink(dir + "/exe")

	return &machineapi.ProcessInfo{
		Pid:            int32(pid),
		Ppid:           int32(number(1)),
		State:          fields[0],
		Threads:        int32(number(17)),
		CpuTime:        float64(number(11)+number(12)) / ticksPerSecond,
		VirtualMemory:  number(20),
		ResidentMemory: number(21) * uint64(os.Getpagesize()),
		Command:        string(b[open+1 : end]),
		Executable:     executable,
		Args:           strings.TrimSpace(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))),
	}
}

// storage implements the storage service: the list of disks.
type storage struct {
	storageapi.UnimplementedStorageServiceServer
}

// Disks lists the disks, without loop devices.
func (storage) Disks(context.Context, *emptypb.Empty) (*storageapi.DisksResponse, error) {
	devices, err := disk.Survey()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	out := &storageapi.Disks{}

	for _, d := range devices {
		if d.Parent != "" || strings.HasPrefix(d.Name, "loop") {
			continue
		}

		out.Disks = append(out.Disks, &storageapi.Disk{
			DeviceName: "/dev/" + d.Name, Size: d.Size, Model: d.Model, Serial: d.Serial, Modalias: d.Modalias,
			BusPath: d.BusPath, Readonly: d.Readonly,
		})
	}

	return &storageapi.DisksResponse{Messages: []*storageapi.Disks{out}}, nil
}

// clock implements the time service: the node's own clock.
type clock struct {
	timeapi.UnimplementedTimeServiceServer
}

// Time returns the node's time.
func (clock) Time(context.Context, *emptypb.Empty) (*timeapi.TimeResponse, error) {
	now := timestamppb.New(time.Now())

	return &timeapi.TimeResponse{Messages: []*timeapi.Time{{Localtime: now, Remotetime: now}}}, nil
}
