package supervise

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Condition is something that a service waits for before it starts. String completes "Waiting for …".
type Condition interface {
	fmt.Stringer
	Wait(ctx context.Context) error
}

// Gate is a condition that is opened once, by an event.
type Gate struct {
	name string
	once sync.Once
	open chan struct{}
}

// NewGate makes a closed gate.
func NewGate(name string) *Gate {
	return &Gate{name: name, open: make(chan struct{})}
}

// Open lets everyone through, now and later.
func (g *Gate) Open() { g.once.Do(func() { close(g.open) }) }

// IsOpen tells whether the gate was opened.
func (g *Gate) IsOpen() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}

// Opened is closed when the gate is open.
func (g *Gate) Opened() <-chan struct{} { return g.open }

func (g *Gate) String() string {
	if g.IsOpen() {
		return ""
	}

	return g.name
}

// Wait implements Condition.
func (g *Gate) Wait(ctx context.Context) error {
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PathExists waits for a file. Files come up from other programs, so the directory is looked at twice a second.
type PathExists string

func (p PathExists) String() string {
	if _, err := os.Stat(string(p)); err == nil {
		return ""
	}

	return fmt.Sprintf("file %q to exist", string(p))
}

// Wait implements Condition.
func (p PathExists) Wait(ctx context.Context) error {
	return Poll(ctx, 500*time.Millisecond, func() bool {
		_, err := os.Stat(string(p))

		return err == nil
	})
}

// Poll calls ok at once and then every interval until it is true or the context ends.
func Poll(ctx context.Context, interval time.Duration, ok func() bool) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()

	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}

	return nil
}

// all waits for several conditions at once and tells those that were not met yet.
type all struct {
	conditions []Condition
	mu         sync.Mutex
	met        []bool
}

func allOf(conditions []Condition) *all {
	return &all{conditions: conditions, met: make([]bool, len(conditions))}
}

func (a *all) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()

	var parts []string

	for i, c := range a.conditions {
		if s := c.String(); s != "" && !a.met[i] { // a foreign condition goes on telling its name when it is met
			parts = append(parts, s)
		}
	}

	return strings.Join(parts, ", ")
}

func (a *all) Wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the first failure ends the other waits

	outcomes := make(chan error, len(a.conditions))

	for i, c := range a.conditions {
		go func() {
			err := c.Wait(ctx)
			if err == nil {
				a.mu.Lock()
				a.met[i] = true
				a.mu.Unlock()
			}

			outcomes <- err
		}()
	}

	for range a.conditions {
		if err := <-outcomes; err != nil {
			return err
		}
	}

	return nil
}
