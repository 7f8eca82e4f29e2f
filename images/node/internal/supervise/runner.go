package supervise

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lab/images/node/internal/console"
	"lab/images/node/internal/process"
)

const (
	// eventsKept is the length of a service's history, as in Talos (events.MaxEventsToKeep).
	eventsKept = 64
	// A process that ends is started again after one second, later after up to restartMax.
	restartMin, restartMax = time.Second, 5 * time.Second
	// A process that ran this long is not counted as failing any more.
	settled = time.Minute
	// conditionInterval is how often the message of a waiting service is brought up to date.
	conditionInterval = time.Second
)

type runner struct {
	supervisor *Supervisor
	spec       Service

	mu      sync.Mutex
	state   State
	events  []Event
	health  HealthStatus
	pid     int
	wasUp   bool // it was up by itself at some time, however shortly
	changed chan struct{}
	cancel  context.CancelFunc // nil when the service is not started
	ended   chan struct{}
}

func newRunner(s *Supervisor, spec Service) *runner {
	return &runner{
		supervisor: s,
		spec:       spec,
		state:      StateInitialized,
		health:     HealthStatus{Unknown: true},
		changed:    make(chan struct{}),
	}
}

func (r *runner) start() {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.cancel != nil {
		return
	}

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.cancel, r.ended = cancel, ended

	go func() {
		r.run(ctx)

		r.mu.Lock()
		r.cancel = nil
		r.mu.Unlock()
		cancel()
		close(ended)
	}()
}

func (r *runner) stop() {
	r.mu.Lock()
	cancel, ended := r.cancel, r.ended
	r.mu.Unlock()

	if cancel == nil {
		return
	}

	cancel()
	<-ended
}

func (r *runner) run(ctx context.Context) {
	r.set(StateStarting, "Starting service")

	err := r.lifecycle(ctx)

	switch {
	case ctx.Err() != nil:
		r.set(StateFinished, "Service finished successfully")
	case errors.Is(err, ErrSkip):
		r.set(StateSkipped, "Service skipped")
	case err != nil:
		r.set(StateFailed, err.Error())
	default:
		r.set(StateFinished, "Service finished successfully")
	}
}

// ErrSkip is returned by Prepare when the service is not wanted on this node.
var ErrSkip = errors.New("service skipped")

func (r *runner) lifecycle(ctx context.Context) error {
	conditions := make([]Condition, 0, len(r.spec.DependsOn)+len(r.spec.Conditions))
	for _, id := range r.spec.DependsOn {
		conditions = append(conditions, up{r.supervisor, id})
	}

	conditions = append(conditions, r.spec.Conditions...)

	if err := r.await(ctx, allOf(conditions)); err != nil {
		return fmt.Errorf("condition failed: %w", err)
	}

	if r.spec.Prepare != nil {
		r.set(StatePreparing, "Running pre state")

		if err := r.spec.Prepare(ctx); err != nil {
			if errors.Is(err, ErrSkip) {
				return err
			}

			return fmt.Errorf("failed to run pre stage: %w", err)
		}
	}

	backoff := restartMin

	for {
		started := time.Now()
		err := r.once(ctx)

		if ctx.Err() != nil {
			return nil
		}

		again, message := r.spec.afterRun(err)
		if !again {
			return err
		}

		if time.Since(started) > settled {
			backoff = restartMin
		}

		pause := r.spec.Pause
		if pause == 0 {
			pause, backoff = backoff, min(2*backoff, restartMax)
		}

		r.setHealth(HealthStatus{Unknown: r.spec.Health == nil, Message: "service not running"})
		r.set(StateWaiting, message)

		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// afterRun decides whether a service that ended by itself starts again, and words the wait for it as Talos does.
func (s Service) afterRun(err error) (again bool, message string) {
	name := s.Runner
	if name == "" {
		name = s.ID
	}

	switch {
	case s.Restart == RestartNever, s.Restart == RestartUntilSuccess && err == nil:
		return false, ""
	case s.Restart == RestartUntilSuccess:
		return true, fmt.Sprintf("Error running %s, going to restart until it succeeds: %v", name, err)
	case err == nil:
		return true, fmt.Sprintf("Runner %s exited without error, going to restart it", name)
	default:
		return true, fmt.Sprintf("Error running %s, going to restart forever: %v", name, err)
	}
}

func (r *runner) await(ctx context.Context, conditions *all) error {
	description := conditions.String()
	if description == "" {
		return conditions.Wait(ctx)
	}

	r.set(StateWaiting, "Waiting for "+description)

	met := make(chan error, 1)

	go func() { met <- conditions.Wait(ctx) }()

	ticker := time.NewTicker(conditionInterval)
	defer ticker.Stop()

	for {
		select {
		case err := <-met:
			return err
		case <-ticker.C:
			if now := conditions.String(); now != "" && now != description {
				description = now
				r.set(StateWaiting, "Waiting for "+description)
			}
		}
	}
}

// once runs the service until it ends or the context does.
func (r *runner) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var checks sync.WaitGroup
	defer checks.Wait()
	defer cancel()

	if r.spec.Run != nil {
		defer r.setPID(0)

		return r.spec.Run(ctx, func(state State, pid int, message string) {
			r.setPID(pid)
			r.set(state, message)

			if state == StateRunning {
				checks.Go(func() { r.checkHealth(ctx) })
			}
		})
	}

	if r.spec.Serve != nil {
		r.set(StateRunning, "Service started as goroutine")
		checks.Go(func() { r.checkHealth(ctx) })

		return r.spec.Serve(ctx)
	}

	command, err := r.spec.Command(ctx)
	if err != nil {
		return err
	}

	command.Output = r.supervisor.logs.Buffer(r.spec.ID)

	child, err := r.supervisor.reaper.Start(command)
	if err != nil {
		return err
	}

	r.setPID(child.PID)
	defer r.setPID(0)

	r.set(StateRunning, fmt.Sprintf("Process %s started with PID %d", filepath.Base(command.Path), child.PID))
	checks.Go(func() { r.checkHealth(ctx) })

	select {
	case <-child.Done():
		return child.Err()
	case <-ctx.Done():
		r.set(StateStopping, fmt.Sprintf("Sending SIGTERM to %s", filepath.Base(command.Path)))
		r.stopChild(child)

		return ctx.Err()
	}
}

func (r *runner) setPID(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.pid = pid
}

func (r *runner) stopChild(child *process.Process) {
	grace := r.spec.StopGrace
	if grace == 0 {
		grace = 10 * time.Second
	}

	child.Stop(grace)
}

func (r *runner) set(state State, message string) {
	event := Event{Time: time.Now(), State: state, Message: message}

	r.mu.Lock()
	r.state = state
	r.events = append(r.events, event)

	if over := len(r.events) - eventsKept; over > 0 {
		r.events = slices.Delete(r.events, 0, over)
	}

	status := r.statusLocked()
	// Not Finished: that is also said of a service that is being restarted.
	r.wasUp = r.wasUp || status.Up() && state != StateFinished

	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()

	console.Printf("service[%s](%s): %s", r.spec.ID, state, message)
	r.supervisor.onChange(status, event)
}

func (r *runner) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.statusLocked()
}

func (r *runner) statusAndChange() (Status, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.statusLocked(), r.changed
}

// reached tells whether the service is up, or was for a moment at least: a boot sequence that waits for it goes on even
// when the service ends again at once, as in Talos.
func (r *runner) reached() (bool, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.wasUp || r.statusLocked().Up(), r.changed
}

func (r *runner) statusLocked() Status {
	return Status{
		ID:         r.spec.ID,
		State:      r.state,
		Events:     slices.Clone(r.events),
		Health:     r.health,
		HasHealth:  r.spec.Health != nil,
		Background: r.spec.Background,
		PID:        r.pid,
	}
}
