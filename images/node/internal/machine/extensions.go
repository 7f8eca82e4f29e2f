package machine

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/extensions/services"

	"lab/images/node/internal/console"
	"lab/images/node/internal/cri"
	"lab/images/node/internal/extension"
	"lab/images/node/internal/supervise"
)

// extensionPause is the time between two runs of an extension service, as in Talos (restart.DefaultOptions).
const extensionPause = 5 * time.Second

// extensionServices lists the services that the image's system extensions bring along.
func (m *Machine) extensionServices() []supervise.Service {
	specs, problems := extension.Load(extension.SpecDir)
	for _, err := range problems {
		console.Printf("%v", err)
	}

	list := make([]supervise.Service, 0, len(specs))
	for _, spec := range specs {
		list = append(list, m.extensionService(spec))
	}

	return list
}

func (m *Machine) extensionService(spec services.Spec) supervise.Service {
	id := extension.ID(spec.Name)
	containerd := extension.Containerd{Socket: cri.Socket, Grace: 10 * time.Second, FIFODir: "/run/extensions"}

	return supervise.Service{
		ID:         id,
		DependsOn:  []string{"containerd"},
		Conditions: extension.Conditions(spec, m.store.State, m.services.Up),
		Runner:     "Containerd(" + id + ")",
		Restart:    extension.Restart(spec.Restart),
		Pause:      extensionPause,
		Run: func(ctx context.Context, report supervise.Report) error {
			in, err := m.extensionInputs(spec)
			if err != nil {
				return err
			}

			return containerd.Run(ctx, id, extension.OCI(spec, in), m.extensionOutput(spec), report)
		},
	}
}

// extensionInputs prepares what the container of a service needs on the node and collects what it is made from.
func (m *Machine) extensionInputs(spec services.Spec) (extension.Inputs, error) {
	in := extension.Inputs{ConfigDir: extension.ConfigDir}

	var err error

	if in.Rootfs, err = extension.MountRootfs(spec.Name); err != nil {
		return in, err
	}

	if err = extension.MakeSources(spec.Container.Mounts); err != nil {
		return in, err
	}

	if in.File, err = extension.ReadEnvironmentFile(spec.Container.EnvironmentFile); err != nil {
		return in, err
	}

	if in.Capabilities, err = extension.OwnCapabilities(); err != nil {
		return in, err
	}

	for name, value := range m.config().Machine().Env() {
		in.Environment = append(in.Environment, name+"="+value)
	}

	m.extensionMu.Lock()
	in.Config = m.extensionConfigs[spec.Name]
	m.extensionMu.Unlock()

	return in, nil
}

func (m *Machine) extensionOutput(spec services.Spec) io.Writer {
	id := extension.ID(spec.Name)
	output := io.Writer(m.logs.Buffer(id))

	if spec.LogToConsole {
		output = io.MultiWriter(output, extension.Lines(func(line string) { console.Printf("%s: %s", id, line) }))
	}

	return output
}

// applyExtensionConfigs brings the extension services in line with the documents of a config. Nothing of a document's
// content is said: it holds secrets.
func (m *Machine) applyExtensionConfigs(cfg config.Provider) error {
	m.extensionMu.Lock()
	defer m.extensionMu.Unlock()

	next := extension.FromDocuments(cfg.ExtensionServiceConfigs())
	changes := extension.Compare(m.extensionConfigs, next)

	for _, c := range changes {
		if err := extension.WriteFiles(extension.ConfigDir, c.Name, next[c.Name].Files); err != nil {
			return err
		}
	}

	m.extensionConfigs = next

	for _, c := range changes {
		started := m.serviceStarted(extension.ID(c.Name)) // before the release below

		if c.Kind == extension.Removed {
			m.store.DropExtensionServiceConfig(c.Name)
		} else {
			m.store.ExtensionServiceConfig(c.Name, next[c.Name])
		}

		m.followChange(c, started)
	}

	return nil
}

// serviceStarted tells whether a service was started and has not ended, waiting included.
func (m *Machine) serviceStarted(id string) bool {
	status, err := m.services.Status(id)

	return err == nil && status.Started()
}

func (m *Machine) followChange(c extension.Change, started bool) {
	id := extension.ID(c.Name)

	m.mu.Lock()
	booted := m.booted
	m.mu.Unlock()

	if !booted { // no service is started yet: each finds its config
		return
	}

	if _, err := m.services.Status(id); err != nil {
		console.Printf("extension service config of %q %s; the image has no extension service of that name", c.Name, c.Kind)

		return
	}

	console.Printf("extension service config of %q %s", c.Name, c.Kind)

	if !c.NeedsRestart(started) {
		return
	}

	go func() { // stopping may take the container's grace; the caller of ApplyConfiguration does not wait for it
		m.extensionRestarts.Lock()
		defer m.extensionRestarts.Unlock()

		console.Printf("extension service config changed, restarting %s", id)

		if err := restartService(m.services, id); err != nil {
			console.Printf("restart of %s: %v", id, err)
		}
	}()
}

func restartService(s *supervise.Supervisor, id string) error {
	if err := s.Stop(id); err != nil {
		return fmt.Errorf("stop: %w", err)
	}

	return s.Start(id)
}
