package machine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/siderolabs/crypto/x509"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"lab/images/node/internal/api"
	"lab/images/node/internal/console"
	"lab/images/node/internal/disk"
	"lab/images/node/internal/pki"
)

// loadConfig reads the config that an earlier boot stored on STATE.
func (m *Machine) loadConfig(ctx context.Context) error {
	if !m.disk.Has(disk.State) {
		console.Printf("no machine configuration: the disk %s has no STATE partition yet", m.disk.Device)

		return nil
	}

	if err := m.mountVolume(ctx, disk.State, stateDir); err != nil {
		return err
	}

	content, err := os.ReadFile(configFile)
	if errors.Is(err, os.ErrNotExist) {
		console.Printf("no machine configuration on STATE")

		return nil
	}

	if err != nil {
		return err
	}

	provider, err := configloader.NewFromBytes(content)
	if err != nil {
		return fmt.Errorf("stored machine configuration: %w", err)
	}

	console.Printf("machine configuration loaded from STATE")

	m.mu.Lock()
	m.cfg = provider
	m.mu.Unlock()
	m.configured.Open()

	return nil
}

// maintenance serves the maintenance API until there is a config.
func (m *Machine) maintenance(ctx context.Context) error {
	console.Printf("entering maintenance service")
	m.events.Publish(&machineapi.TaskEvent{Task: "runningMaintenance", Action: machineapi.TaskEvent_START})
	m.setStage(runtime.MachineStageMaintenance)

	cert, err := pki.SelfSigned(pki.Request{
		CommonName: m.lease.Hostname,
		Names:      []string{m.lease.Hostname, "maintenance-service.talos.dev"},
		Addresses:  []netip.Addr{m.lease.Address.Addr()},
		Usage:      pki.Server,
	})
	if err != nil {
		return err
	}

	settings, err := api.NewTLS(cert.Crt, cert.Key, nil)
	if err != nil {
		return err
	}

	fingerprint, err := x509.SPKIFingerprintFromPEM(cert.Crt)
	if err != nil {
		return err
	}

	serve, stop := context.WithCancel(ctx)
	defer stop()

	failed := make(chan error, 1)

	go func() {
		failed <- api.Serve(serve, m.apiMachine(), api.Access{Maintenance: true, Contract: m.args.Contract}, settings)
	}()

	console.Printf("this machine is reachable at:")
	console.Printf("\t%s", m.lease.Address.Addr())
	console.Printf("server certificate issued, fingerprint: %s", fingerprint)
	console.Milestone("maintenance")

	select {
	case <-m.configured.Opened():
	case err := <-failed:
		return err
	}

	m.events.Publish(&machineapi.TaskEvent{Task: "runningMaintenance", Action: machineapi.TaskEvent_STOP})
	m.setStage(runtime.MachineStageBooting)
	console.Milestone("config-received")
	stop()

	return <-failed // the port is free for apid from here on
}

func (m *Machine) apiMachine() *api.Machine {
	return &api.Machine{
		Node:         m,
		Contract:     m.args.Contract,
		Architecture: m.args.Architecture,
		Services:     m.services,
		Logstore:     m.logs,
		Stream:       m.events,
		Store:        m.store,
	}
}
