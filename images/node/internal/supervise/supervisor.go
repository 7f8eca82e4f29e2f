package supervise

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"lab/images/node/internal/logs"
	"lab/images/node/internal/process"
)

// Supervisor holds all services of the node.
type Supervisor struct {
	reaper *process.Reaper
	logs   *logs.Store
	// onChange is told of every change of a service's state or health, outside of any lock.
	onChange func(Status, Event)

	mu       sync.Mutex
	order    []string
	services map[string]*runner
}

// New makes a supervisor without services.
func New(reaper *process.Reaper, store *logs.Store, onChange func(Status, Event)) *Supervisor {
	return &Supervisor{reaper: reaper, logs: store, onChange: onChange, services: map[string]*runner{}}
}

// Load adds services without starting them. Loading an id again is an error of the caller.
func (s *Supervisor) Load(services ...Service) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, spec := range services {
		if _, ok := s.services[spec.ID]; ok {
			return fmt.Errorf("service %q is loaded twice", spec.ID)
		}

		s.order = append(s.order, spec.ID)
		s.services[spec.ID] = newRunner(s, spec)
	}

	return nil
}

// CheckGraph refuses dependencies on services that are not loaded, and circles.
func (s *Supervisor) CheckGraph() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	specs := map[string][]string{}
	for id, r := range s.services {
		specs[id] = r.spec.DependsOn
	}

	return CheckGraph(specs)
}

// CheckGraph refuses a dependency graph with an unknown service or a circle.
func CheckGraph(dependsOn map[string][]string) error {
	const (
		visiting = 1
		visited  = 2
	)

	marks := map[string]int{}

	var visit func(id string, path []string) error

	visit = func(id string, path []string) error {
		path = append(path, id)

		switch marks[id] {
		case visiting:
			return fmt.Errorf("services wait for each other: %s", strings.Join(path, " -> "))
		case visited:
			return nil
		}

		marks[id] = visiting

		for _, dep := range dependsOn[id] {
			if _, ok := dependsOn[dep]; !ok {
				return fmt.Errorf("service %q depends on %q, which is not loaded", id, dep)
			}

			if err := visit(dep, path); err != nil {
				return err
			}
		}

		marks[id] = visited

		return nil
	}

	ids := make([]string, 0, len(dependsOn))
	for id := range dependsOn {
		ids = append(ids, id)
	}

	slices.Sort(ids)

	for _, id := range ids {
		if err := visit(id, nil); err != nil {
			return err
		}
	}

	return nil
}

// Start starts a loaded service; a service that runs already is left alone.
func (s *Supervisor) Start(id string) error {
	r, err := s.runner(id)
	if err != nil {
		return err
	}

	r.start()

	return nil
}

// StartAll starts every loaded service.
func (s *Supervisor) StartAll() {
	for _, r := range s.all() {
		r.start()
	}
}

// Stop stops a service and waits until it has ended.
func (s *Supervisor) Stop(id string) error {
	r, err := s.runner(id)
	if err != nil {
		return err
	}

	r.stop()

	return nil
}

// StopAll stops all services except the named ones, dependents before what they depend on.
func (s *Supervisor) StopAll(except ...string) {
	var wg sync.WaitGroup

	for _, r := range s.all() {
		if slices.Contains(except, r.spec.ID) {
			continue
		}

		wg.Go(func() {
			for _, other := range s.all() {
				if slices.Contains(other.spec.DependsOn, r.spec.ID) && !slices.Contains(except, other.spec.ID) {
					other.stop()
				}
			}

			r.stop()
		})
	}

	wg.Wait()
}

// Status returns the state of one service.
func (s *Supervisor) Status(id string) (Status, error) {
	r, err := s.runner(id)
	if err != nil {
		return Status{}, err
	}

	return r.status(), nil
}

// List returns the state of all services in the order in which they were loaded.
func (s *Supervisor) List() []Status {
	runners := s.all()
	out := make([]Status, 0, len(runners))

	for _, r := range runners {
		out = append(out, r.status())
	}

	return out
}

// WaitAllUp waits until every service that the boot sequence awaits is up, or was since it was loaded; report is called with those that are not,
// every 15 s as Talos does.
func (s *Supervisor) WaitAllUp(ctx context.Context, report func(waiting []Status)) error {
	ticker := time.NewTicker(15 * time.Second)
	defer ticker.Stop()

	for _, r := range s.all() {
		if r.spec.Background {
			continue
		}

		for {
			reached, changed := r.reached()
			if reached {
				break
			}

			select {
			case <-changed:
			case <-ticker.C:
				report(s.notUp())
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}

	return nil
}

func (s *Supervisor) notUp() []Status {
	var out []Status

	for _, r := range s.all() {
		if reached, _ := r.reached(); !reached && !r.spec.Background {
			out = append(out, r.status())
		}
	}

	return out
}

func (s *Supervisor) runner(id string) (*runner, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	r, ok := s.services[id]
	if !ok {
		return nil, fmt.Errorf("service %q is not defined", id)
	}

	return r, nil
}

func (s *Supervisor) all() []*runner {
	s.mu.Lock()
	defer s.mu.Unlock()

	out := make([]*runner, 0, len(s.order))
	for _, id := range s.order {
		out = append(out, s.services[id])
	}

	return out
}
