// Package logs keeps the last output of every service in memory for the Logs call.
package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
)

// capacity is how much output of one service is kept.
const capacity = 512 << 10

// Store holds one buffer a service.
type Store struct {
	mu      sync.Mutex
	buffers map[string]*Buffer
}

// NewStore makes an empty store.
func NewStore() *Store {
	return &Store{buffers: map[string]*Buffer{}}
}

// Buffer returns the buffer of a service and makes it when needed.
func (s *Store) Buffer(id string) *Buffer {
	s.mu.Lock()
	defer s.mu.Unlock()

	b, ok := s.buffers[id]
	if !ok {
		b = &Buffer{changed: make(chan struct{})}
		s.buffers[id] = b
	}

	return b
}

// Find returns the buffer of a service that has one.
func (s *Store) Find(id string) (*Buffer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	b, ok := s.buffers[id]

	return b, ok
}

// IDs lists the services that have a buffer, sorted.
func (s *Store) IDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	ids := make([]string, 0, len(s.buffers))
	for id := range s.buffers {
		ids = append(ids, id)
	}

	slices.Sort(ids)

	return ids
}

// Buffer is the last output of one service. Readers follow it by position, writers never wait for readers.
type Buffer struct {
	mu      sync.Mutex
	data    []byte
	dropped int64 // bytes before data that are gone
	changed chan struct{}
}

// Write appends output and forgets the oldest beyond the capacity.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.data = append(b.data, p...)

	if over := len(b.data) - capacity; over > capacity/4 { // trimmed seldom: moving memory costs
		b.data = append(b.data[:0], b.data[over:]...)
		b.dropped += int64(over)
	}

	close(b.changed)
	b.changed = make(chan struct{})

	return len(p), nil
}

// Printf writes one line of the agent's own.
func (b *Buffer) Printf(format string, args ...any) {
	fmt.Fprintf(b, format+"\n", args...)
}

// read returns what was written from position on, the next position, and a channel that tells of more.
func (b *Buffer) read(from int64) ([]byte, int64, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()

	start := max(from-b.dropped, 0)
	end := b.dropped + int64(len(b.data))

	if start >= int64(len(b.data)) {
		return nil, end, b.changed
	}

	return slices.Clone(b.data[start:]), end, b.changed
}

// tailStart is the position of the last n lines; n < 0 means everything.
func (b *Buffer) tailStart(n int) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()

	if n < 0 {
		return b.dropped
	}

	end := len(b.data)
	at := end

	if at > 0 && b.data[at-1] == '\n' {
		at--
	}

	for range n {
		at = bytes.LastIndexByte(b.data[:max(at, 0)], '\n')
		if at < 0 {
			return b.dropped
		}
	}

	if n == 0 {
		return b.dropped + int64(end)
	}

	return b.dropped + int64(at) + 1
}

// Stream passes the last lines (all when negative) to send; with follow it goes on until the context ends.
func (b *Buffer) Stream(ctx context.Context, lines int, follow bool, send func([]byte) error) error {
	at := b.tailStart(lines)

	for {
		chunk, next, changed := b.read(at)
		at = next

		if len(chunk) > 0 {
			if err := send(chunk); err != nil {
				return err
			}

			continue
		}

		if !follow {
			return nil
		}

		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// Tail returns the last n lines as text.
func (b *Buffer) Tail(n int) string {
	var out bytes.Buffer

	_ = b.Stream(context.Background(), n, false, func(p []byte) error {
		_, err := out.Write(p)

		return err
	})

	return out.String()
}

var _ io.Writer = (*Buffer)(nil)
