package api

import (
	"context"
	"fmt"
	"sync"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"lab/images/node/internal/console"
)

// eventsKept is how far back the Events call can look.
const eventsKept = 1000

// Events is the node's event stream: sequences, phases, tasks and service states, as Talos publishes them.
type Events struct {
	mu      sync.Mutex
	events  []*machineapi.Event
	first   int // number of events that were dropped
	changed chan struct{}
}

// NewEvents makes an empty stream.
func NewEvents() *Events {
	return &Events{changed: make(chan struct{})}
}

// Publish appends an event.
func (e *Events) Publish(payload proto.Message) { e.PublishOf("", payload) }

// PublishOf appends an event that a call caused; actor is the id in the answer of the call.
func (e *Events) PublishOf(actor string, payload proto.Message) {
	data, err := anypb.New(payload)
	if err != nil {
		console.Printf("event %T was not published: %v", payload, err)

		return
	}

	data.TypeUrl = "talos/runtime/" + string(payload.ProtoReflect().Descriptor().FullName())

	e.mu.Lock()
	defer e.mu.Unlock()

	e.events = append(e.events, &machineapi.Event{Data: data, ActorId: actor, Id: fmt.Sprintf("%020d", e.first+len(e.events)+1)})

	if len(e.events) > eventsKept {
		e.events = append([]*machineapi.Event(nil), e.events[1:]...)
		e.first++
	}

	close(e.changed)
	e.changed = make(chan struct{})
}

// Stream sends the last tail events (all when negative) and then new ones until the context ends. As in Talos the first
// message is empty: it tells that the stream has begun.
func (e *Events) Stream(ctx context.Context, tail int, afterID string, send func(*machineapi.Event) error) error {
	e.mu.Lock()
	end := e.first + len(e.events)
	next := end

	switch {
	case afterID != "":
		next = e.first
		for i, event := range e.events {
			if event.GetId() <= afterID {
				next = e.first + i + 1
			}
		}
	case tail < 0:
		next = e.first
	default:
		next = max(e.first, end-tail)
	}
	e.mu.Unlock()

	if err := send(&machineapi.Event{Data: &anypb.Any{}}); err != nil {
		return err
	}

	for {
		e.mu.Lock()
		next = max(next, e.first)
		batch := e.events[next-e.first:]
		changed := e.changed
		e.mu.Unlock()

		for _, event := range batch {
			if err := send(event); err != nil {
				return err
			}
		}

		next += len(batch)

		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
