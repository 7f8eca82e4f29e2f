// Package machine is the life of a node: it boots, waits for a config in maintenance mode, starts the services in the
// order of Talos' boot sequence, and answers what the API asks of it.
package machine

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"lab/images/node/internal/api"
	"lab/images/node/internal/bootargs"
	"lab/images/node/internal/console"
	"lab/images/node/internal/disk"
	"lab/images/node/internal/extension"
	"lab/images/node/internal/kernel"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/layers"
	"lab/images/node/internal/logs"
	"lab/images/node/internal/nic"
	"lab/images/node/internal/process"
	"lab/images/node/internal/resources"
	"lab/images/node/internal/supervise"
)

// Where the two partitions are mounted and what STATE holds; the paths are Talos'.
const (
	stateDir     = "/system/state"
	ephemeralDir = "/var"
	configFile   = stateDir + "/config.yaml"
	identityFile = stateDir + "/node-identity.yaml"
)

// Machine is the node.
type Machine struct {
	args     bootargs.Args
	reaper   *process.Reaper
	logs     *logs.Store
	events   *api.Events
	store    *resources.Store
	services *supervise.Supervisor
	disk     *disk.Disk
	lease    nic.Lease

	// imageCache tells that a disk with container images is mounted; set before the services start.
	imageCache bool
	// modules is closed when the kernel modules of package kernel are loaded.
	modules chan struct{}
	// configured opens when there is a config to boot with.
	configured *supervise.Gate
	// apiCertificates opens when apid has a certificate, timeSynced when the clock is right.
	apiCertificates, timeSynced *supervise.Gate
	// bootstrapped opens when etcd may start: by the Bootstrap call, or because it has data from an earlier boot.
	bootstrapped *supervise.Gate
	// joinable opens on a control plane when the manifests are applied that nodes need to join.
	joinable *supervise.Gate
	// kubernetes opens when the API server is ready for the first time.
	kubernetes *supervise.Gate
	// settled opens when the node is Ready for the first time in this boot, or takes too long to get there.
	settled *supervise.Gate

	// extensionMu guards the ExtensionServiceConfig documents that the node runs with; extensionRestarts makes the
	// restarts that their changes ask for follow one another.
	extensionMu       sync.Mutex
	extensionConfigs  extension.Configs
	extensionRestarts sync.Mutex

	mu       sync.Mutex
	cfg      config.Provider
	node     kube.Node
	stage    runtime.MachineStage
	booted   bool // services are being started, so Bootstrap may be asked for
	ending   bool // a reboot, shutdown or reset is under way
	nodeSeen bool // the cluster knows this node
	ready    bool // the cluster says that it is Ready
	last     runtime.MachineStatusSpec
	saidUp   bool
}

// errRebooting ends the boot when the machine goes down meanwhile.
var errRebooting = errors.New("the machine is going down")

// Run boots the node. It returns only with an error that no node can go on with.
func Run(ctx context.Context) error {
	m := &Machine{
		reaper:          process.NewReaper(),
		logs:            logs.NewStore(),
		events:          api.NewEvents(),
		modules:         make(chan struct{}),
		configured:      supervise.NewGate("machine configuration"),
		apiCertificates: supervise.NewGate("api certificates"),
		timeSynced:      supervise.NewGate("time sync"),
		bootstrapped:    supervise.NewGate("bootstrap"),
		joinable:        supervise.NewGate("join manifests to be applied"),
		kubernetes:      supervise.NewGate("Kubernetes API server"),
		settled:         supervise.NewGate("Kubernetes node to be ready"),
	}

	if err := kernel.MountEarly(); err != nil {
		return err
	}

	console.Milestone("agent-started")

	var err error
	if m.args, err = bootargs.Read(); err != nil {
		return err
	}

	if err := kernel.PrepareCgroups(); err != nil {
		return err
	}

	if m.store, err = resources.New(ctx); err != nil {
		return err
	}

	m.services = supervise.New(m.reaper, m.logs, m.serviceChanged)
	m.setStage(runtime.MachineStageBooting)

	if err := m.initialize(ctx); err != nil {
		return err
	}

	if !m.configured.IsOpen() {
		if err := m.maintenance(ctx); err != nil {
			return err
		}
	}

	if err := m.boot(ctx); err != nil && !errors.Is(err, errRebooting) {
		return err
	}

	<-ctx.Done() // PID 1 never ends by itself; Reboot and Shutdown end the machine

	return nil
}

// initialize brings up what a node has even without a config: kernel, network, disk, resources.
func (m *Machine) initialize(ctx context.Context) error {
	end := m.sequence("initialize")
	defer end()

	if err := kernel.OverlayWritable(); err != nil {
		return err
	}

	m.store.KernelCmdline(m.args.Raw)
	m.store.Version(api.VersionTag(m.args.Contract))

	extensions, err := layers.Read("/run/" + layers.ExtensionsFile)
	if err != nil {
		return err
	}

	m.store.Extensions(extensions)

	go func() {
		defer close(m.modules)

		kernel.LoadModules(ctx, m.reaper, kernel.Modules...)
		console.Milestone("modules-loaded")
	}()

	go func() {
		if err := m.store.WatchLinks(ctx); err != nil {
			console.Printf("%v", err)
		}
	}()

	return m.phases("initialize",
		phase{"systemRequirements", []task{
			{"setupNetwork", m.setupNetwork},
			{"findSystemDisk", m.findSystemDisk},
		}},
		phase{"config", []task{{"loadConfig", m.loadConfig}}},
	).run(ctx)
}

func (m *Machine) setupNetwork(ctx context.Context) error {
	lease, err := nic.Up(ctx)
	if err != nil {
		return err
	}

	m.lease = lease

	console.Milestone("network-up")
	console.Printf("address %s on %s, gateway %s, name servers %v, time servers %v, hostname %q",
		lease.Address, lease.Link, lease.Gateway, lease.DNS, lease.NTP, lease.Hostname)

	go nic.Keep(ctx, lease)

	m.store.NodeAddresses([]netip.Prefix{lease.Address})
	m.store.Hostname(lease.Hostname, lease.Domain)
	m.store.NetworkReady(true)

	return nil
}

func (m *Machine) findSystemDisk(context.Context) error {
	d, err := disk.Find()
	if err != nil {
		return err
	}

	m.disk = d
	m.store.SystemDisk(filepath.Base(d.Device))
	m.volume(disk.Meta, block.FilesystemTypeNone, nil)

	return nil
}

// serviceChanged is told of every change of a service.
func (m *Machine) serviceChanged(status supervise.Status, event supervise.Event) {
	m.store.Service(status)
	m.events.Publish(api.ServiceState(status, event))
	m.refreshStatus()
}

// sequence announces the start of a sequence and returns what announces its end.
func (m *Machine) sequence(name string) func() {
	started := time.Now()

	m.events.Publish(&machineapi.SequenceEvent{Sequence: name, Action: machineapi.SequenceEvent_START})

	return func() {
		m.events.Publish(&machineapi.SequenceEvent{Sequence: name, Action: machineapi.SequenceEvent_STOP})
		console.Printf("%s sequence: done: %s", name, time.Since(started).Round(time.Millisecond))
	}
}

func (m *Machine) config() config.Provider {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.cfg
}

func (m *Machine) facts() kube.Node {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.node
}
