package machine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lab/images/node/internal/console"
	"lab/images/node/internal/kernel"
	"lab/images/node/internal/kube"
	"lab/images/node/internal/supervise"
)

// startAllServices loads and starts all services and waits until those that Talos waits for are up. When that takes
// longer than the boot time-out the machine reboots, as Talos does after 70 minutes.
func (m *Machine) startAllServices(ctx context.Context) error {
	services, err := m.serviceSet(ctx)
	if err != nil {
		return err
	}

	if err := m.services.Load(services...); err != nil {
		return err
	}

	if err := m.services.CheckGraph(); err != nil {
		return err
	}

	if m.facts().Speed {
		for group, weight := range kube.CPUWeights {
			if err := kernel.CPUWeight(group, weight); err != nil {
				return fmt.Errorf("CPU share of %s: %w", group, err)
			}
		}
	}

	m.mu.Lock()
	m.booted = true
	m.mu.Unlock()
	console.Milestone("services-starting")
	m.services.StartAll()
	console.Printf("task startAllServices (1/1): waiting for all services to be up, for at most %.0f seconds; the node reboots then", m.args.BootTimeout.Seconds())

	wait, cancel := context.WithTimeout(ctx, m.args.BootTimeout)
	defer cancel()

	err = m.services.WaitAllUp(wait, func(waiting []supervise.Status) {
		var parts []string
		for _, s := range waiting {
			parts = append(parts, fmt.Sprintf("service %q to be \"up\"", s.ID))
		}

		console.Printf("task startAllServices (1/1): %s", strings.Join(parts, ", "))
	})
	if errors.Is(err, context.DeadlineExceeded) {
		console.Printf("boot sequence: failed: task startAllServices (1/1): not all services are up after %s, rebooting", m.args.BootTimeout)

		if _, err := m.Reboot("boot timeout"); err != nil {
			return err
		}

		return fmt.Errorf("%w: %w", err, errRebooting)
	}

	return err
}
