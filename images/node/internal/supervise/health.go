package supervise

import (
	"context"
	"time"
)

// checkHealth runs the service's check, when it has one, until the context ends.
func (r *runner) checkHealth(ctx context.Context) {
	h := r.spec.Health
	if h == nil {
		return
	}

	r.setHealth(HealthStatus{Unknown: true})

	wait := h.Initial

	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}

		checkCtx, cancel := context.WithTimeout(ctx, h.Timeout)
		err := h.Check(checkCtx)
		cancel()

		if ctx.Err() != nil {
			return
		}

		if err != nil {
			r.setHealth(HealthStatus{Message: err.Error()})
			wait = h.Initial

			continue
		}

		r.setHealth(HealthStatus{Healthy: true})
		wait = h.Interval
	}
}

// setHealth records the outcome of a check; only a change is an event.
func (r *runner) setHealth(next HealthStatus) {
	r.mu.Lock()
	last := r.health
	next.Changed = last.Changed
	same := last.Unknown == next.Unknown && last.Healthy == next.Healthy

	if !same {
		next.Changed = time.Now()
	}

	r.health = next
	state := r.state
	r.mu.Unlock()

	if same || state != StateRunning || next.Unknown {
		return
	}

	if next.Healthy {
		r.set(StateRunning, "Health check successful")
	} else {
		r.set(StateRunning, "Health check failed: "+next.Message)
	}
}
