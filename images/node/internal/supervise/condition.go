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

// all waits for several conditions at once.
type all []Condition

func (a all) String() string {
	var parts []string

	for _, c := range a {
		if s := c.String(); s != "" {
			parts = append(parts, s)
		}
	}

	return strings.Join(parts, ", ")
}

func (a all) Wait(ctx context.Context) error {
	for _, c := range a { // one after the other is the same as at once: all have to be met
		if err := c.Wait(ctx); err != nil {
			return err
		}
	}

	return nil
}
