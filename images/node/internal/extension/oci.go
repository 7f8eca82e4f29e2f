package extension

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/extensions/services"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

const (
	// oomScoreAdj spares extension services before pods when memory runs out; Talos' value.
	oomScoreAdj = -600
	// defaultPath is for a program that is named without a directory, as containerd has it.
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// standardMounts are those of every container (containerd's defaults), and the host's name resolution as in Talos.
var standardMounts = []specs.Mount{
	{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
	{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
	{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
	{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
	{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hosts", Options: []string{"rbind", "ro"}},
	{Destination: "/etc/resolv.conf", Type: "bind", Source: "/etc/resolv.conf", Options: []string{"rbind", "ro"}},
}

// What a container may not read or change unless its spec says otherwise; containerd's defaults.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/scsi",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// capabilities by their number (linux/capability.h).
var capabilities = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL
	CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN
	CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT
	CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE
	CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM
	CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

// Grantable lists the capabilities of a bounding set (CapBnd of /proc/self/status) without those that Talos keeps from
// everything that it starts.
func Grantable(bounding uint64) []string {
	var out []string

	for i, name := range capabilities {
		if _, dropped := constants.DefaultDroppedCapabilities[strings.ToLower(name)]; !dropped && bounding&(1<<i) != 0 {
			out = append(out, name)
		}
	}

	return out
}

// Inputs are what the container of a service is made from besides its spec.
type Inputs struct {
	Rootfs       string // absolute path of the root file system
	ConfigDir    string // where the config files are kept
	Environment  []string
	File         []string // variables of the spec's environment file
	Config       runtime.ExtensionServiceConfigSpec
	Capabilities []string
}

// OCI renders the runtime spec of a service's container. It is a pure function.
func OCI(spec services.Spec, in Inputs) *specs.Spec {
	security := spec.Container.Security

	return &specs.Spec{
		Version: "1.1.0", // what runc 1.1 knows
		Root:    &specs.Root{Path: in.Rootfs, Readonly: !security.WriteableRootfs},
		Process: &specs.Process{
			Args:            append([]string{spec.Container.Entrypoint}, spec.Container.Args...),
			Env:             Environment([]string{defaultPath}, in.Environment, in.File, spec.Container.Environment, in.Config.Environment),
			Cwd:             "/",
			NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: in.Capabilities, Effective: in.Capabilities, Permitted: in.Capabilities, Inheritable: in.Capabilities,
			},
			OOMScoreAdj: new(oomScoreAdj),
		},
		Mounts: mounts(spec, in),
		Linux: &specs.Linux{
			CgroupsPath:       constants.CgroupExtensions + "/" + spec.Name,
			RootfsPropagation: security.RootfsPropagation,
			MaskedPaths:       unlessNil(security.MaskedPaths, maskedPaths),
			ReadonlyPaths:     unlessNil(security.ReadonlyPaths, readonlyPaths),
			Resources:         &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}},
			// Network and host name are the node's.
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
			},
		},
	}
}

func unlessNil(own, standard []string) []string {
	if own != nil { // an empty list means that nothing is masked
		return own
	}

	return standard
}

// mounts puts the spec's mounts over the standard ones, and the config files over both.
func mounts(spec services.Spec, in Inputs) []specs.Mount {
	taken := map[string]bool{}
	for _, m := range spec.Container.Mounts {
		taken[m.Destination] = true
	}

	for _, f := range in.Config.Files {
		taken[f.MountPath] = true
	}

	var out []specs.Mount

	for _, m := range standardMounts {
		if taken[m.Destination] {
			continue
		}

		if m.Type == "sysfs" && spec.Container.Security.WriteableSysfs {
			m.Options = append(slices.Clone(m.Options[:len(m.Options)-1]), "rw")
		}

		out = append(out, m)
	}

	out = append(out, spec.Container.Mounts...)

	for _, f := range in.Config.Files {
		out = append(out, specs.Mount{
			Destination: f.MountPath, Type: "bind", Source: FilePath(in.ConfigDir, spec.Name, f.MountPath), Options: []string{"bind", "ro"},
		})
	}

	return out
}

// Environment joins lists of NAME=VALUE; a later value of a name replaces an earlier one.
func Environment(lists ...[]string) []string {
	at := map[string]int{}

	var out []string

	for _, entry := range slices.Concat(lists...) {
		name, _, _ := strings.Cut(entry, "=")

		if i, ok := at[name]; ok {
			out[i] = entry

			continue
		}

		at[name] = len(out)
		out = append(out, entry)
	}

	return out
}
