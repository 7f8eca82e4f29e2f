package supervise

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lab/images/node/internal/logs"
	"lab/images/node/internal/process"
)

// There can be one reaper a process: it collects every child.
var reaper = process.NewReaper()

func TestCheckGraph(t *testing.T) {
	for name, tc := range map[string]struct {
		graph map[string][]string
		err   string
	}{
		"tree":    {graph: map[string][]string{"cri": nil, "etcd": {"cri"}, "kubelet": {"cri"}}},
		"unknown": {graph: map[string][]string{"etcd": {"cri"}}, err: `depends on "cri", which is not loaded`},
		"circle":  {graph: map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"a"}}, err: "a -> b -> c -> a"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckGraph(tc.graph)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("want %q, got %v", tc.err, err)
			}
		})
	}
}

func serveUntilDone(ctx context.Context) error { <-ctx.Done(); return nil }

func TestServiceStartsWhenWhatItWaitsForIsUp(t *testing.T) {
	s := New(reaper, logs.NewStore(), func(Status, Event) {})
	gate := NewGate("extension service config")
	healthy := make(chan error)

	if err := s.Load(
		Service{ID: "second", DependsOn: []string{"first"}, Serve: serveUntilDone},
		Service{ID: "first", Conditions: []Condition{gate}, Serve: serveUntilDone, Health: &Health{
			Check:   func(context.Context) error { return <-healthy },
			Initial: time.Millisecond, Interval: time.Hour, Timeout: time.Second,
		}},
	); err != nil {
		t.Fatal(err)
	}

	s.StartAll()
	eventually(t, func() bool {
		st, _ := s.Status("first")

		return st.State == StateWaiting && st.LastMessage() == "Waiting for extension service config"
	})
	gate.Open()
	eventually(t, func() bool { st, _ := s.Status("first"); return st.State == StateRunning })

	healthy <- errors.New("not yet")
	if st, _ := s.Status("second"); st.State != StateWaiting {
		t.Fatalf("second is %s before first is healthy", st.State)
	}
	healthy <- nil

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()

	if err := s.WaitAllUp(ctx, func([]Status) {}); err != nil {
		t.Fatal(err)
	}

	s.StopAll()
	for _, st := range s.List() {
		if st.State != StateFinished {
			t.Errorf("%s is %s after StopAll", st.ID, st.State)
		}
	}
}

func TestProcessIsRestarted(t *testing.T) {
	s := New(reaper, logs.NewStore(), func(Status, Event) {})
	starts := make(chan struct{}, 10)

	_ = s.Load(Service{ID: "short", Command: func(context.Context) (process.Command, error) {
		starts <- struct{}{}

		return process.Command{Path: "/bin/false"}, nil
	}})
	s.StartAll()
	<-starts
	<-starts
	s.StopAll()

	st, _ := s.Status("short")
	for _, e := range st.Events {
		if e.State == StateWaiting && strings.Contains(e.Message, "going to restart forever: exit status 1") {
			return
		}
	}

	t.Fatalf("no restart in %+v", st.Events)
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()

	if err := Poll(ctx, time.Millisecond, ok); err != nil {
		t.Fatal("did not happen in 5 s")
	}
}

func TestRestartPolicy(t *testing.T) {
	failed := errors.New(`task "ext-hello" failed: exit code 1`)

	for name, tc := range map[string]struct {
		policy  Restart
		err     error
		again   bool
		message string
	}{
		"always, failed":           {RestartAlways, failed, true, `Error running Containerd(ext-hello), going to restart forever: task "ext-hello" failed: exit code 1`},
		"always, succeeded":        {RestartAlways, nil, true, "Runner Containerd(ext-hello) exited without error, going to restart it"},
		"never, failed":            {RestartNever, failed, false, ""},
		"never, succeeded":         {RestartNever, nil, false, ""},
		"until success, failed":    {RestartUntilSuccess, failed, true, `Error running Containerd(ext-hello), going to restart until it succeeds: task "ext-hello" failed: exit code 1`},
		"until success, succeeded": {RestartUntilSuccess, nil, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			again, message := Service{ID: "ext-hello", Runner: "Containerd(ext-hello)", Restart: tc.policy}.afterRun(tc.err)
			if again != tc.again || message != tc.message {
				t.Fatalf("got %v %q", again, message)
			}
		})
	}
}

func TestBootGoesOnWhenServicesFinishOrWereUpOnce(t *testing.T) {
	s := New(reaper, logs.NewStore(), func(Status, Event) {})
	runs := func(fail bool) func(context.Context, Report) error {
		return func(_ context.Context, report Report) error {
			report(StateRunning, 42, "Started task")

			if fail {
				return errors.New("exit code 1")
			}

			return nil
		}
	}

	if err := s.Load(
		Service{ID: "once", Run: runs(false), Restart: RestartNever},
		Service{ID: "flaps", Run: runs(true), Pause: time.Hour},
	); err != nil {
		t.Fatal(err)
	}

	s.StartAll()
	defer s.StopAll()

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()

	if err := s.WaitAllUp(ctx, func([]Status) {}); err != nil {
		t.Fatal(err)
	}

	eventually(t, func() bool {
		once, _ := s.Status("once")
		flaps, _ := s.Status("flaps")

		return once.State == StateFinished && !once.Started() && flaps.State == StateWaiting && flaps.Started()
	})
}

func TestServiceThatWaitsForAnUnknownOneHoldsOnlyItself(t *testing.T) {
	s := New(reaper, logs.NewStore(), func(Status, Event) {})
	if err := s.Load(Service{ID: "ext-hello", Conditions: []Condition{s.Up("nobody")}, Serve: serveUntilDone}); err != nil {
		t.Fatal(err)
	}

	if err := s.CheckGraph(); err != nil {
		t.Fatal(err)
	}

	s.StartAll()
	eventually(t, func() bool {
		st, _ := s.Status("ext-hello")

		return st.LastMessage() == `Waiting for service "nobody" to be registered`
	})
	s.StopAll()
}
