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

// Service describes a service. Exactly one of Command and Serve is set.
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
	Serve  func(ctx context.Context) error
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

// Up tells whether others may rely on the service.
func (s Status) Up() bool {
	return s.State == StateRunning && (!s.HasHealth || s.Health.Healthy) || s.State == StateSkipped
}

// LastMessage is the newest message of the service's history.
func (s Status) LastMessage() string {
	if len(s.Events) == 0 {
		return ""
	}

	return s.Events[len(s.Events)-1].Message
}
