// Package kernel sets up what the running kernel gives to the node: mounts, modules, settings, control groups.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
	"lab/images/node/internal/process"
)

type mount struct {
	source, target, fs string
	flags              uintptr
	data               string
}

// earlyMounts are needed before anything else; /proc, /sys, /dev and /run come from the initramfs.
var earlyMounts = []mount{
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "ptmxmode=000,mode=620,gid=5"},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, ""},
	{"mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV, ""},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "size=64m"},
	{"tmpfs", "/system", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID | unix.MS_NODEV, "mode=0700"},
}

// optional are targets whose absence (no mount point in the image, no kernel support) costs nothing the node needs.
var optional = map[string]bool{"/sys/fs/bpf": true, "/dev/mqueue": true}

// MountEarly mounts the pseudo file systems and makes the root tree shared, as container runtimes expect.
func MountEarly() error {
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make / a shared mount: %w", err)
	}

	for _, m := range earlyMounts {
		err := os.MkdirAll(m.target, 0o755)
		if err == nil {
			err = unix.Mount(m.source, m.target, m.fs, m.flags, m.data)
		}

		if err != nil && !errors.Is(err, unix.EBUSY) && !optional[m.target] {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}

	return nil
}

// overlaid are directories of the read-only root that programs write to; the changes stay in memory (/run).
var overlaid = []string{"/etc", "/opt", "/usr/libexec/kubernetes"}

// OverlayWritable makes those directories writable. The module overlay has to be loaded.
func OverlayWritable() error {
	for _, dir := range overlaid {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			continue // the image has none, so no program expects it
		}

		name := strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")
		upper, work := "/run/overlay/"+name+"/upper", "/run/overlay/"+name+"/work"

		if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
			return err
		}

		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
		if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
			return fmt.Errorf("make %s writable with an overlay: %w", dir, err)
		}
	}

	return nil
}

// Modules that the cluster's network and storage need. Names, not paths: modprobe knows their dependencies.
var Modules = []string{
	"ext4", "overlay", "br_netfilter", "bridge", "veth", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nft_fib_inet",
	"nft_numgen", "nft_reject_inet", "nf_conntrack", "xt_comment", "xt_conntrack", "xt_mark", "xt_MASQUERADE", "xt_nat",
	"xt_addrtype", "nft_compat", "tun",
}

// LoadModules loads modules with one modprobe; a module that the kernel has built in, or lacks, is not fatal here
// but is said on the console.
func LoadModules(ctx context.Context, reaper *process.Reaper, names ...string) {
	if len(names) == 0 {
		return
	}

	if out, err := reaper.Run(ctx, "/usr/sbin/modprobe", append([]string{"-a", "-b", "-q"}, names...)...); err != nil {
		console.Printf("some kernel modules of %s are not there: %v %s", strings.Join(names, " "), err, strings.TrimSpace(out))
	}
}

// LoadModule loads one module with parameters, as machine.kernel.modules asks.
func LoadModule(ctx context.Context, reaper *process.Reaper, name string, parameters []string) error {
	_, err := reaper.Run(ctx, "/usr/sbin/modprobe", append([]string{"-b", name}, parameters...)...)

	return err
}

// Sysctls are the settings that kubelet (protectKernelDefaults) and the pod network demand; as in Talos.
var Sysctls = map[string]string{
	"kernel.panic":                        "10",
	"kernel.panic_on_oops":                "1",
	"kernel.keys.root_maxkeys":            "1000000",
	"kernel.keys.root_maxbytes":           "25000000",
	"kernel.pid_max":                      "262144",
	"vm.overcommit_memory":                "1",
	"vm.panic_on_oom":                     "0",
	"net.ipv4.ip_forward":                 "1",
	"net.ipv6.conf.default.forwarding":    "1",
	"fs.inotify.max_user_watches":         "1048576",
	"fs.inotify.max_user_instances":       "8192",
	"net.core.somaxconn":                  "65535",
	"net.ipv4.conf.all.rp_filter":         "0",
	"net.netfilter.nf_conntrack_max":      "65536",
	"net.bridge.bridge-nf-call-iptables":  "1",
	"net.bridge.bridge-nf-call-ip6tables": "1",
}

// SetSysctl writes one setting.
func SetSysctl(key, value string) error {
	path := filepath.Join("/proc/sys", SysctlPath(key))
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", key, value, err)
	}

	return nil
}

// SysctlPath turns a setting's name into its path: dots separate, and a slash stands for a dot in a name (sysctl(8)).
func SysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}

	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// PrepareCgroups moves the agent out of the root control group and hands all controllers to its children.
func PrepareCgroups() error {
	const root = "/sys/fs/cgroup"

	for _, dir := range []string{"/init", "/system", "/podruntime"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			return err
		}
	}

	if err := os.WriteFile(root+"/init/cgroup.procs", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("move PID 1 to its control group: %w", err)
	}

	available, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}

	for _, parent := range []string{"", "/system", "/podruntime"} {
		for controller := range strings.FieldsSeq(string(available)) {
			if controller == "cpu" || controller == "cpuset" || controller == "memory" || controller == "pids" || controller == "io" || controller == "hugetlb" {
				if err := os.WriteFile(root+parent+"/cgroup.subtree_control", []byte("+"+controller), 0o644); err != nil {
					return fmt.Errorf("enable the controller %s in %s: %w", controller, root+parent, err)
				}
			}
		}
	}

	return nil
}

// CPUWeight gives a control group its share of a busy CPU relative to its siblings; 100 is the kernel's default.
func CPUWeight(path string, weight int) error {
	dir := "/sys/fs/cgroup" + path
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}

	return os.WriteFile(dir+"/cpu.weight", []byte(fmt.Sprint(weight)), 0o644)
}
