// Package supervise runs the node's services: it orders them by what they wait for, restarts what ends, checks their
// health, and tells the state, message and history of each in Talos' words.
package supervise

import (
	"context"
	"time"

	"lab/images/node/internal/process"
)

// State is the state of a service as ServiceList names it.
type State string

// The states of a service, in the order in which a service normally goes through them.
const (
	StateInitialized State = "Initialized"
	StateStarting    State = "Starting"
	StateWaiting     State = "Waiting"
	StatePreparing   State = "Preparing"
	StateRunning     State = "Running"
	StateStopping    State = "Stopping"
	StateFinished    State = "Finished"
	StateFailed      State = "Failed"
	StateSkipped     State = "Skipped"
)

// Restart says what follows when a service ends by itself.
type Restart int

// The restart policies, in the words of the extension services' specs.
const (
	// RestartAlways starts it again whether it failed or not.
	RestartAlways Restart = iota
	// RestartNever leaves it ended: Finished after a success, Failed after a failure.
	RestartNever
	// RestartUntilSuccess starts it again after a failure only.
	RestartUntilSuccess
)

// Report is how a service that is run elsewhere tells its state; the pid is 0 when nothing runs.
type Report func(state State, pid int, message string)

// Service describes a service. Exactly one of Command, Serve and Run is set.
type Service struct {
	ID string
	// DependsOn are services that must be up (running, and healthy when they have a check) before this one starts.
	DependsOn  []string
	Conditions []Condition
	// Prepare runs before each start of the service, not before each restart of its process.
	Prepare func(ctx context.Context) error
	// Command renders the program to run; it is asked again for every restart.
	Command func(ctx context.Context) (process.Command, error)
	// Serve runs the service inside the agent until the context ends.
	Serve func(ctx context.Context) error
	// Run runs a service whose process is not a child of the agent until it ends or the context does. It reports
	// StateRunning when the process runs, and StateStopping when it is asked to end.
	Run func(ctx context.Context, report Report) error
	// Runner names what runs the service in its messages; empty means the service's id.
	Runner  string
	Restart Restart
	// Pause is the time between two runs; zero means one second, growing to five.
	Pause  time.Duration
	Health *Health
	// Background services are not awaited by the boot sequence (in Talos these would be static pods).
	Background bool
	// StopGrace is the time between SIGTERM and SIGKILL; zero means ten seconds.
	StopGrace time.Duration
}

// Health is a check that runs while a service runs.
type Health struct {
	Check func(ctx context.Context) error
	// Until the first success the check runs every Initial, afterwards every Interval.
	Initial, Interval, Timeout time.Duration
}

// Event is one entry of a service's history.
type Event struct {
	Time    time.Time
	State   State
	Message string
}

// HealthStatus is what the health check last said; Unknown until it ran, and for services without a check.
type HealthStatus struct {
	Unknown, Healthy bool
	Message          string
	Changed          time.Time
}

// Status is the state of a service at one moment.
type Status struct {
	ID         string
	State      State
	Events     []Event
	Health     HealthStatus
	HasHealth  bool
	Background bool
	PID        int
}

// Up tells whether others may rely on the service. As in Talos one that has finished or was skipped counts as up.
func (s Status) Up() bool {
	return s.State == StateRunning && (!s.HasHealth || s.Health.Healthy) || s.State == StateSkipped || s.State == StateFinished
}

// Started tells whether the service was started and has not ended: it may wait, run, or be between two runs.
func (s Status) Started() bool {
	switch s.State {
	case StateInitialized, StateFinished, StateFailed, StateSkipped:
		return false
	default:
		return true
	}
}

// LastMessage is the newest message of the service's history.
func (s Status) LastMessage() string {
	if len(s.Events) == 0 {
		return ""
	}

	return s.Events[len(s.Events)-1].Message
}
