package api

import (
	"bufio"
	"context"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// proc reads a part of /proc; a failure is an error of the call.
func proc[T any](read func(procfs.FS) (T, error)) (T, error) {
	fs, err := procfs.NewDefaultFS()
	if err == nil {
		var value T
		if value, err = read(fs); err == nil {
			return value, nil
		}
	}

	var none T

	return none, status.Error(codes.Internal, err.Error())
}

// LoadAvg returns the kernel's load averages.
func (m *Machine) LoadAvg(context.Context, *emptypb.Empty) (*machineapi.LoadAvgResponse, error) {
	load, err := proc(procfs.FS.LoadAvg)
	if err != nil {
		return nil, err
	}

	return &machineapi.LoadAvgResponse{Messages: []*machineapi.LoadAvg{{Load1: load.Load1, Load5: load.Load5, Load15: load.Load15}}}, nil
}

// Memory returns the kernel's account of memory, in KiB.
func (m *Machine) Memory(context.Context, *emptypb.Empty) (*machineapi.MemoryResponse, error) {
	info, err := proc(procfs.FS.Meminfo)
	if err != nil {
		return nil, err
	}

	kib := func(value *uint64) uint64 {
		if value == nil { // the kernel does not tell it
			return 0
		}

		return *value
	}

	return &machineapi.MemoryResponse{Messages: []*machineapi.Memory{{Meminfo: &machineapi.MemInfo{
		Memtotal: kib(info.MemTotal), Memfree: kib(info.MemFree), Memavailable: kib(info.MemAvailable), Buffers: kib(info.Buffers),
		Cached: kib(info.Cached), Swapcached: kib(info.SwapCached), Active: kib(info.Active), Inactive: kib(info.Inactive),
		Activeanon: kib(info.ActiveAnon), Inactiveanon: kib(info.InactiveAnon), Activefile: kib(info.ActiveFile),
		Inactivefile: kib(info.InactiveFile), Unevictable: kib(info.Unevictable), Mlocked: kib(info.Mlocked),
		Swaptotal: kib(info.SwapTotal), Swapfree: kib(info.SwapFree), Dirty: kib(info.Dirty), Writeback: kib(info.Writeback),
		Anonpages: kib(info.AnonPages), Mapped: kib(info.Mapped), Shmem: kib(info.Shmem), Slab: kib(info.Slab),
		Sreclaimable: kib(info.SReclaimable), Sunreclaim: kib(info.SUnreclaim), Kernelstack: kib(info.KernelStack),
		Pagetables: kib(info.PageTables), Nfsunstable: kib(info.NFSUnstable), Bounce: kib(info.Bounce),
		Writebacktmp: kib(info.WritebackTmp), Commitlimit: kib(info.CommitLimit), Committedas: kib(info.CommittedAS),
		Vmalloctotal: kib(info.VmallocTotal), Vmallocused: kib(info.VmallocUsed), Vmallocchunk: kib(info.VmallocChunk),
		Hardwarecorrupted: kib(info.HardwareCorrupted), Anonhugepages: kib(info.AnonHugePages), Shmemhugepages: kib(info.ShmemHugePages),
		Shmempmdmapped: kib(info.ShmemPmdMapped), Cmatotal: kib(info.CmaTotal), Cmafree: kib(info.CmaFree),
		Hugepagestotal: kib(info.HugePagesTotal), Hugepagesfree: kib(info.HugePagesFree), Hugepagesrsvd: kib(info.HugePagesRsvd),
		Hugepagessurp: kib(info.HugePagesSurp), Hugepagesize: kib(info.Hugepagesize), Directmap4K: kib(info.DirectMap4k),
		Directmap2M: kib(info.DirectMap2M), Directmap1G: kib(info.DirectMap1G),
	}}}}, nil
}

// SystemStat returns the kernel's statistics of CPUs, interrupts and processes.
func (m *Machine) SystemStat(context.Context, *emptypb.Empty) (*machineapi.SystemStatResponse, error) {
	stat, err := proc(procfs.FS.Stat)
	if err != nil {
		return nil, err
	}

	cpu := func(in procfs.CPUStat) *machineapi.CPUStat {
		return &machineapi.CPUStat{
			User: in.User, Nice: in.Nice, System: in.System, Idle: in.Idle, Iowait: in.Iowait, Irq: in.IRQ, SoftIrq: in.SoftIRQ,
			Steal: in.Steal, Guest: in.Guest, GuestNice: in.GuestNice,
		}
	}

	out := &machineapi.SystemStat{
		BootTime: stat.BootTime, CpuTotal: cpu(stat.CPUTotal), IrqTotal: stat.IRQTotal, Irq: stat.IRQ,
		ContextSwitches: stat.ContextSwitches, ProcessCreated: stat.ProcessCreated,
		ProcessRunning: stat.ProcessesRunning, ProcessBlocked: stat.ProcessesBlocked, SoftIrqTotal: stat.SoftIRQTotal,
		SoftIrq: &machineapi.SoftIRQStat{
			Hi: stat.SoftIRQ.Hi, Timer: stat.SoftIRQ.Timer, NetTx: stat.SoftIRQ.NetTx, NetRx: stat.SoftIRQ.NetRx, Block: stat.SoftIRQ.Block,
			BlockIoPoll: stat.SoftIRQ.BlockIoPoll, Tasklet: stat.SoftIRQ.Tasklet, Sched: stat.SoftIRQ.Sched,
			Hrtimer: stat.SoftIRQ.Hrtimer, Rcu: stat.SoftIRQ.Rcu,
		},
	}

	for _, core := range slices.Sorted(maps.Keys(stat.CPU)) {
		out.Cpu = append(out.Cpu, cpu(stat.CPU[core]))
	}

	return &machineapi.SystemStatResponse{Messages: []*machineapi.SystemStat{out}}, nil
}

// CPUInfo describes the CPUs.
func (m *Machine) CPUInfo(context.Context, *emptypb.Empty) (*machineapi.CPUInfoResponse, error) {
	list, err := proc(procfs.FS.CPUInfo)
	if err != nil {
		return nil, err
	}

	out := &machineapi.CPUsInfo{}

	for _, in := range list {
		out.CpuInfo = append(out.CpuInfo, &machineapi.CPUInfo{
			Processor: uint32(in.Processor), VendorId: in.VendorID, CpuFamily: in.CPUFamily, Model: in.Model, ModelName: in.ModelName,
			Stepping: in.Stepping, CpuMhz: in.CPUMHz, CacheSize: in.CacheSize, PhysicalId: in.PhysicalID, CoreId: in.CoreID,
			Siblings: uint32(in.Siblings), Flags: in.Flags, Bugs: in.Bugs, BogoMips: in.BogoMips,
		})
	}

	return &machineapi.CPUInfoResponse{Messages: []*machineapi.CPUsInfo{out}}, nil
}

// CPUFreqStats has an entry for each CPU. A virtual CPU has no frequency to tell.
func (m *Machine) CPUFreqStats(context.Context, *emptypb.Empty) (*machineapi.CPUFreqStatsResponse, error) {
	policies, err := os.ReadDir("/sys/devices/system/cpu/cpufreq")
	if err != nil && !os.IsNotExist(err) {
		return nil, status.Error(codes.Internal, err.Error())
	}

	out := &machineapi.CPUsFreqStats{}

	for _, policy := range policies {
		dir := "/sys/devices/system/cpu/cpufreq/" + policy.Name()
		out.CpuFreqStats = append(out.CpuFreqStats, &machineapi.CPUFreqStats{
			CurrentFrequency: number(readTrimmed(dir + "/scaling_cur_freq")),
			MinimumFrequency: number(readTrimmed(dir + "/cpuinfo_min_freq")),
			MaximumFrequency: number(readTrimmed(dir + "/cpuinfo_max_freq")),
			Governor:         readTrimmed(dir + "/scaling_governor"),
		})
	}

	return &machineapi.CPUFreqStatsResponse{Messages: []*machineapi.CPUsFreqStats{out}}, nil
}

// NetworkDeviceStats returns the counters of each network interface, and their sum.
func (m *Machine) NetworkDeviceStats(context.Context, *emptypb.Empty) (*machineapi.NetworkDeviceStatsResponse, error) {
	devices, err := proc(procfs.FS.NetDev)
	if err != nil {
		return nil, err
	}

	line := func(in procfs.NetDevLine) *machineapi.NetDev {
		return &machineapi.NetDev{
			Name: in.Name, RxBytes: in.RxBytes, RxPackets: in.RxPackets, RxErrors: in.RxErrors, RxDropped: in.RxDropped, RxFifo: in.RxFIFO,
			RxFrame: in.RxFrame, RxCompressed: in.RxCompressed, RxMulticast: in.RxMulticast, TxBytes: in.TxBytes, TxPackets: in.TxPackets,
			TxErrors: in.TxErrors, TxDropped: in.TxDropped, TxFifo: in.TxFIFO, TxCollisions: in.TxCollisions, TxCarrier: in.TxCarrier,
			TxCompressed: in.TxCompressed,
		}
	}

	out := &machineapi.NetworkDeviceStats{Total: line(devices.Total())}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		out.Devices = append(out.Devices, line(devices[name]))
	}

	return &machineapi.NetworkDeviceStatsResponse{Messages: []*machineapi.NetworkDeviceStats{out}}, nil
}

// DiskStats returns the counters of each block device, and their sum.
func (m *Machine) DiskStats(context.Context, *emptypb.Empty) (*machineapi.DiskStatsResponse, error) {
	content, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	return &machineapi.DiskStatsResponse{Messages: []*machineapi.DiskStats{diskStats(string(content))}}, nil
}

// diskStats reads the kernel's table (Documentation/admin-guide/iostats.rst).
func diskStats(table string) *machineapi.DiskStats {
	out := &machineapi.DiskStats{Total: &machineapi.DiskStat{}}

	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 18 {
			continue
		}

		device := &machineapi.DiskStat{Name: fields[2]}

		for i, counters := range [][2]*uint64{
			{&device.ReadCompleted, &out.Total.ReadCompleted}, {&device.ReadMerged, &out.Total.ReadMerged},
			{&device.ReadSectors, &out.Total.ReadSectors}, {&device.ReadTimeMs, &out.Total.ReadTimeMs},
			{&device.WriteCompleted, &out.Total.WriteCompleted}, {&device.WriteMerged, &out.Total.WriteMerged},
			{&device.WriteSectors, &out.Total.WriteSectors}, {&device.WriteTimeMs, &out.Total.WriteTimeMs},
			{&device.IoInProgress, &out.Total.IoInProgress}, {&device.IoTimeMs, &out.Total.IoTimeMs},
			{&device.IoTimeWeightedMs, &out.Total.IoTimeWeightedMs}, {&device.DiscardCompleted, &out.Total.DiscardCompleted},
			{&device.DiscardMerged, &out.Total.DiscardMerged}, {&device.DiscardSectors, &out.Total.DiscardSectors},
			{&device.DiscardTimeMs, &out.Total.DiscardTimeMs},
		} {
			*counters[0] = number(fields[3+i])
			*counters[1] += *counters[0]
		}

		out.Devices = append(out.Devices, device)
	}

	return out
}

// Mounts lists the mounted file systems with their size and free space.
func (m *Machine) Mounts(context.Context, *emptypb.Empty) (*machineapi.MountsResponse, error) {
	f, err := os.Open("/proc/mounts")
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	defer f.Close()

	out := &machineapi.Mounts{}

	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}

		mount := &machineapi.MountStat{Filesystem: fields[0], MountedOn: fields[1]}

		var stat unix.Statfs_t
		if info, err := os.Stat(fields[1]); err == nil && info.IsDir() && unix.Statfs(fields[1], &stat) == nil {
			mount.Size, mount.Available = uint64(stat.Bsize)*stat.Blocks, uint64(stat.Bsize)*stat.Bavail
		}

		out.Stats = append(out.Stats, mount)
	}

	return &machineapi.MountsResponse{Messages: []*machineapi.Mounts{out}}, lines.Err()
}

// Netstat lists the sockets of the node's own network namespace.
func (m *Machine) Netstat(_ context.Context, request *machineapi.NetstatRequest) (*machineapi.NetstatResponse, error) {
	if netns := request.GetNetns(); netns.GetAllnetns() || len(netns.GetNetns()) > 0 || request.GetFeature().GetPid() {
		return nil, status.Error(codes.Unimplemented, "sockets of pods, and the processes of sockets, are not part of the reference node's Netstat")
	}

	out := &machineapi.Netstat{}

	for _, table := range []struct {
		name   string
		wanted bool
		read   func(procfs.FS) ([]*machineapi.ConnectRecord, error)
	}{
		{"tcp", request.GetL4Proto().GetTcp(), sockets(procfs.FS.NetTCP)},
		{"tcp6", request.GetL4Proto().GetTcp6(), sockets(procfs.FS.NetTCP6)},
		{"udp", request.GetL4Proto().GetUdp(), sockets(procfs.FS.NetUDP)},
		{"udp6", request.GetL4Proto().GetUdp6(), sockets(procfs.FS.NetUDP6)},
	} {
		if !table.wanted {
			continue
		}

		list, err := proc(table.read)
		if err != nil {
			return nil, err
		}

		for _, socket := range list {
			socket.L4Proto = table.name

			if listening := socket.GetRemoteport() == 0; request.GetFilter() == machineapi.NetstatRequest_ALL ||
				listening == (request.GetFilter() == machineapi.NetstatRequest_LISTENING) {
				out.Connectrecord = append(out.Connectrecord, socket)
			}
		}
	}

	return &machineapi.NetstatResponse{Messages: []*machineapi.Netstat{out}}, nil
}

// sockets turns the lines of one of the kernel's socket tables into records.
func sockets[T procfs.NetTCP | procfs.NetUDP](read func(procfs.FS) (T, error)) func(procfs.FS) ([]*machineapi.ConnectRecord, error) {
	return func(fs procfs.FS) ([]*machineapi.ConnectRecord, error) {
		table, err := read(fs)
		if err != nil {
			return nil, err
		}

		out := make([]*machineapi.ConnectRecord, 0, len(table))
		for _, line := range table {
			out = append(out, &machineapi.ConnectRecord{
				Localip: line.LocalAddr.String(), Localport: uint32(line.LocalPort),
				Remoteip: line.RemAddr.String(), Remoteport: uint32(line.RemPort),
				State: machineapi.ConnectRecord_State(line.St), Txqueue: line.TxQueue, Rxqueue: line.RxQueue,
				Uid: uint32(line.UID), Inode: line.Inode, Process: &machineapi.ConnectRecord_Process{},
			})
		}

		return out, nil
	}
}
