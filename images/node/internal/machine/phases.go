package machine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"

	"lab/images/node/internal/console"
)

// task is one piece of work of a phase.
type task struct {
	name string
	run  func(context.Context) error
}

// phase is a step of a sequence; its tasks run at once.
type phase struct {
	name  string
	tasks []task
}

type phaseList struct {
	machine  *Machine
	sequence string
	phases   []phase
}

func (m *Machine) phases(sequence string, phases ...phase) phaseList {
	return phaseList{machine: m, sequence: sequence, phases: phases}
}

// run runs the phases in order and prints Talos' line for each: "phase NAME (n/m): done, TIME".
func (l phaseList) run(ctx context.Context) error {
	for i, p := range l.phases {
		label := fmt.Sprintf("phase %s (%d/%d)", p.name, i+1, len(l.phases))
		console.Printf("%s: %d tasks(s)", label, len(p.tasks))

		started := time.Now()

		l.machine.events.Publish(&machineapi.PhaseEvent{Phase: p.name, Action: machineapi.PhaseEvent_START})

		err := l.machine.runTasks(ctx, p)

		l.machine.events.Publish(&machineapi.PhaseEvent{Phase: p.name, Action: machineapi.PhaseEvent_STOP})

		if err != nil { // in Talos' words
			console.Printf("%s: failed", label)
			console.Printf("%s sequence: failed", l.sequence)

			return fmt.Errorf("%s sequence, %s: %w", l.sequence, label, err)
		}

		console.Printf("%s: done, %s", label, time.Since(started).Round(time.Millisecond))
	}

	return nil
}

func (m *Machine) runTasks(ctx context.Context, p phase) error {
	var (
		wg   sync.WaitGroup
		errs = make([]error, len(p.tasks))
	)

	for i, t := range p.tasks {
		wg.Go(func() {
			m.events.Publish(&machineapi.TaskEvent{Task: t.name, Action: machineapi.TaskEvent_START})
			defer m.events.Publish(&machineapi.TaskEvent{Task: t.name, Action: machineapi.TaskEvent_STOP})

			if err := t.run(ctx); err != nil {
				console.Printf("task %s (%d/%d): failed: %v", t.name, i+1, len(p.tasks), err)
				errs[i] = fmt.Errorf("task %s: %w", t.name, err)
			}
		})
	}

	wg.Wait()

	return errors.Join(errs...)
}
