package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	talos "github.com/siderolabs/talos/pkg/machinery/resources/cri"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	"lab/images/node/internal/clock"
	"lab/images/node/internal/console"
	"lab/images/node/internal/cri"
	"lab/images/node/internal/disk"
	"lab/images/node/internal/imagecache"
	"lab/images/node/internal/kernel"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/nic"
)

// boot is the boot sequence of a node that has a config.
func (m *Machine) boot(ctx context.Context) error {
	end := m.sequence("boot")

	m.store.MachineConfig(m.config())

	if err := m.applyExtensionConfigs(m.config()); err != nil {
		return err
	}

	err := m.phases("boot",
		phase{"state", []task{
			{"provisionDisk", m.provisionDisk},
			{"nodeFacts", m.nodeFacts},
		}},
		phase{"ephemeral", []task{
			{"mountEphemeral", m.mountEphemeral},
			{"saveConfig", m.saveConfig},
			{"syncTime", m.startTimeSync},
			{"writeEtcFiles", m.writeEtcFiles},
		}},
		phase{"userSetup", []task{
			{"kernelSettings", m.kernelSettings},
			{"writeUserFiles", m.writeUserFiles},
			{"configureRuntime", m.configureRuntime},
		}},
		phase{"startEverything", []task{{"startAllServices", m.startAllServices}}},
	).run(ctx)
	if err != nil {
		return err
	}

	end()
	m.setStage(runtime.MachineStageRunning)
	console.Milestone("boot-done")

	return nil
}

// provisionDisk makes STATE and EPHEMERAL on the first boot.
func (m *Machine) provisionDisk(ctx context.Context) error {
	<-m.modules // ext4

	fresh := !m.disk.Has(disk.State)

	if err := m.disk.Provision(ctx); err != nil {
		return err
	}

	if !fresh && isMounted(stateDir) {
		return m.identity()
	}

	if err := m.mountVolume(ctx, disk.State, stateDir); err != nil {
		return err
	}

	return m.identity()
}

// mountVolume mounts a partition of the node, and publishes it and its mount.
func (m *Machine) mountVolume(ctx context.Context, label, dir string) error {
	err := m.disk.Mount(ctx, m.reaper, label, dir)
	m.volume(label, block.FilesystemTypeEXT4, err)

	if err == nil {
		m.store.Mount(label, m.disk.Partition(label), dir)
	}

	return err
}

// volume publishes a partition of the node, and why it cannot be used.
func (m *Machine) volume(label string, content block.FilesystemType, problem error) {
	partition, _ := m.disk.Find(label)
	m.store.Volume(label, m.disk.Partition(label), m.disk.Device, partition, content, problem)
}

func isMounted(dir string) bool {
	mounts, err := os.ReadFile("/proc/self/mounts")

	return err == nil && strings.Contains(string(mounts), " "+dir+" ")
}

// identity reads the node's identity from STATE, or makes one that every later boot finds again.
func (m *Machine) identity() error {
	var identity struct {
		NodeID string `yaml:"nodeId"`
	}

	content, err := os.ReadFile(identityFile)
	if err == nil {
		err = yaml.Unmarshal(content, &identity)
	}

	if errors.Is(err, os.ErrNotExist) || err == nil && identity.NodeID == "" {
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		identity.NodeID = hex.EncodeToString(id)

		content, err = yaml.Marshal(identity)
		if err == nil {
			err = disk.WriteFile(identityFile, content, 0o600)
		}
	}

	if err != nil {
		return fmt.Errorf("node identity on STATE: %w", err)
	}

	id := identity.NodeID
	m.store.Identity(id, fmt.Sprintf("%s-%s-%s-%s-%s", id[:8], id[8:12], id[12:16], id[16:20], id[20:]))

	// kubelet and containerd take the machine id for their own.
	return os.WriteFile("/etc/machine-id", []byte(id+"\n"), 0o444)
}

// nodeFacts settles the node's name and addresses.
func (m *Machine) nodeFacts(context.Context) error {
	cfg := m.config()

	hostname, domain := m.lease.Hostname, m.lease.Domain

	if h := cfg.NetworkHostnameConfig(); h != nil && h.Hostname() != "" {
		hostname, domain, _ = strings.Cut(h.Hostname(), ".")
	}

	if name, rest, found := strings.Cut(hostname, "."); found {
		hostname, domain = name, rest
	}

	if hostname == "" { // as Talos' stable hostname: from something that the machine keeps
		hostname = "node-" + strings.NewReplacer(".", "-", ":", "-").Replace(m.lease.Address.Addr().String())
	}

	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set hostname %q: %w", hostname, err)
	}

	if resolver := cfg.NetworkResolverConfig(); resolver != nil && len(resolver.Resolvers()) > 0 {
		m.lease.DNS = resolver.Resolvers()
	}

	addresses := []netip.Addr{m.lease.Address.Addr()}

	ip, err := kube.NodeIP(cfg, addresses)
	if err != nil {
		return err
	}

	node := kube.Node{
		Name: strings.ToLower(hostname), Domain: domain, IP: ip, Addresses: addresses,
		Speed: m.args.Switch("components"), ControlPlanes: 1, APIServer: cfg.Cluster().Endpoint().String(),
	}

	if cfg.Machine().Kubelet().RegisterWithFQDN() && domain != "" {
		node.Name += "." + domain
	}

	if prism := cfg.Machine().Features().KubePrism(); prism.Enabled() {
		node.APIServer = fmt.Sprintf("https://127.0.0.1:%d", prism.Port())
	}

	m.mu.Lock()
	m.node = node
	m.mu.Unlock()

	m.store.Hostname(hostname, domain)
	m.store.Nodename(node.Name)
	m.refreshStatus()

	return nil
}

func (m *Machine) mountEphemeral(ctx context.Context) error {
	if err := m.mountVolume(ctx, disk.Ephemeral, ephemeralDir); err != nil {
		return err
	}

	for _, dir := range []string{"lib/containerd", "lib/kubelet", "lib/cni", "log/audit/kube", "log/containers", "log/pods", "tmp"} {
		if err := os.MkdirAll(ephemeralDir+"/"+dir, 0o755); err != nil {
			return err
		}
	}

	if err := os.MkdirAll(kube.EtcdDataDir, 0o700); err != nil {
		return err
	}

	// /var/run points to /run in every distribution; programs write their sockets there.
	if err := os.Symlink("/run", ephemeralDir+"/run"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}

	console.Milestone("disks-mounted")

	return nil
}

func (m *Machine) saveConfig(context.Context) error {
	return storeConfig(m.config())
}

// startTimeSync starts the clock; what needs the right time waits for the gate.
func (m *Machine) startTimeSync(ctx context.Context) error {
	settings := m.config().NetworkTimeSyncConfig()
	if settings != nil && settings.Disabled() {
		m.store.Servers(m.lease.DNS, m.lease.Domain, nil)
		m.store.Time(true, true)
		m.timeSynced.Open()
		m.refreshStatus()

		return nil
	}

	var servers []string

	// The machine config's default (time.cloudflare.com) is not reachable in a lab, the lease's servers are.
	for _, s := range m.lease.NTP {
		servers = append(servers, s.String())
	}

	if settings != nil && (len(servers) == 0 || len(settings.Servers()) > 0 && settings.Servers()[0] != defaultTimeServer) {
		servers = settings.Servers()
	}

	if len(servers) == 0 {
		servers = []string{defaultTimeServer}
	}

	m.store.Servers(m.lease.DNS, m.lease.Domain, servers)
	m.store.Time(false, false)

	go func() {
		if err := clock.Sync(ctx, servers); err != nil {
			console.Printf("time: %v", err)

			return
		}

		m.store.Time(true, false)
		m.timeSynced.Open()
		m.refreshStatus()
		console.Milestone("time-synced")
		clock.Keep(ctx, servers)
	}()

	return nil
}

// defaultTimeServer is machinery's default (constants.DefaultNTPServer).
const defaultTimeServer = "time.cloudflare.com"

func (m *Machine) writeEtcFiles(context.Context) error {
	if err := nic.WriteResolvConf("/etc/resolv.conf", m.lease.DNS, m.lease.Domain); err != nil {
		return err
	}

	if err := os.MkdirAll("/system/resolved", 0o755); err != nil {
		return err
	}

	if err := nic.WriteResolvConf(kube.PodResolvConf, m.lease.DNS, m.lease.Domain); err != nil {
		return err
	}

	node := m.facts()
	hosts := "127.0.0.1 localhost\n::1 localhost\n" + node.IP.String() + " " + node.Name + "\n"

	for _, extra := range m.config().NetworkStaticHostConfig() {
		hosts += extra.IP() + " " + strings.Join(extra.Aliases(), " ") + "\n"
	}

	if err := os.WriteFile("/etc/hosts", []byte(hosts), 0o644); err != nil {
		return err
	}

	return os.WriteFile("/etc/hostname", []byte(node.Name+"\n"), 0o644)
}

func (m *Machine) kernelSettings(ctx context.Context) error {
	for _, module := range m.config().Machine().Kernel().Modules() {
		if err := kernel.LoadModule(ctx, m.reaper, module.Name(), module.Parameters()); err != nil {
			console.Printf("machine.kernel.modules: %v", err)
		}
	}

	for key, value := range kernel.Sysctls {
		if err := kernel.SetSysctl(key, value); err != nil {
			console.Printf("%v", err)
		}
	}

	for key, value := range m.config().Machine().Sysctls() {
		if err := kernel.SetSysctl(key, value); err != nil {
			return fmt.Errorf("machine.sysctls: %w", err)
		}
	}

	m.store.KernelParams(func() []string {
		return slices.Concat(slices.Collect(maps.Keys(kernel.Sysctls)), slices.Collect(maps.Keys(m.config().Machine().Sysctls())))
	})

	return nil
}

// writeUserFiles writes machine.files; like Talos only under /var, and containerd's fragments.
func (m *Machine) writeUserFiles(context.Context) error {
	files, err := m.config().Machine().Files()
	if err != nil {
		return fmt.Errorf("machine.files: %w", err)
	}

	for _, f := range files {
		path := f.Path()
		if !strings.HasPrefix(path, "/var/") && !strings.HasPrefix(path, "/etc/cri/conf.d/") {
			return fmt.Errorf("machine.files: create operation not allowed outside of /var: %q", path)
		}

		flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		if f.Op() == "append" {
			flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
		}

		if err := os.MkdirAll(path[:strings.LastIndex(path, "/")], 0o755); err != nil {
			return err
		}

		file, err := os.OpenFile(path, flags, f.Permissions())
		if err != nil {
			return err
		}

		_, err = file.WriteString(f.Content())
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("machine.files: %w", err)
		}
	}

	return nil
}

func (m *Machine) configureRuntime(ctx context.Context) error {
	if err := m.mountImageCache(ctx); err != nil {
		return err
	}

	if err := m.writeRegistries(m.config()); err != nil {
		return err
	}

	return cri.WriteConfig()
}

// mountImageCache finds the disk with container images when the config wants one. A machine without the disk goes on
// and asks the mirrors, as Talos does.
func (m *Machine) mountImageCache(ctx context.Context) error {
	if !m.config().Machine().Features().ImageCache().LocalEnabled() {
		m.store.ImageCache(talos.ImageCacheStatusDisabled)

		return nil
	}

	device, err := imagecache.Mount(ctx, m.reaper)
	if errors.Is(err, imagecache.ErrNone) {
		console.Printf("image cache: %v", err)
		m.store.ImageCache(talos.ImageCacheStatusDisabled)

		return nil
	}

	if err != nil {
		return err
	}

	console.Printf("image cache: %s", device)
	m.imageCache = true
	m.store.ImageCache(talos.ImageCacheStatusReady, imagecache.Root)

	return nil
}
