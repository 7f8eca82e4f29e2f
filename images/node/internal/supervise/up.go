package supervise

import (
	"context"
	"fmt"
)

// Up is the condition that a service is up. A service that is not loaded is waited for without end, as in Talos.
func (s *Supervisor) Up(id string) Condition { return up{s, id} }

type up struct {
	supervisor *Supervisor
	id         string
}

func (u up) String() string {
	status, err := u.supervisor.Status(u.id)

	switch {
	case err != nil:
		return fmt.Sprintf("service %q to be registered", u.id)
	case status.Up():
		return ""
	default:
		return fmt.Sprintf("service %q to be \"up\"", u.id)
	}
}

func (u up) Wait(ctx context.Context) error {
	r, err := u.supervisor.runner(u.id)
	if err != nil {
		<-ctx.Done() // all services are loaded before the first starts: it will not come

		return ctx.Err()
	}

	for {
		status, changed := r.statusAndChange()
		if status.Up() {
			return nil
		}

		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
