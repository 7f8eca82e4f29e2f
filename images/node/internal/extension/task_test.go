package extension

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"lab/images/node/internal/logs"
	"lab/images/node/internal/supervise"
)

// fakeContainerd keeps one container and one task and writes down what it is asked.
type fakeContainerd struct {
	// stubborn tasks end on SIGKILL only; startError refuses starts.
	stubborn   bool
	startError error
	exitCode   uint32
	endsAtOnce bool

	mu        sync.Mutex
	calls     []string
	container *containersapi.Container
	running   bool
	task      bool
	ended     chan struct{}
	stdout    string
}

func (f *fakeContainerd) note(ctx context.Context, call string) {
	md, _ := metadata.FromIncomingContext(ctx)
	f.calls = append(f.calls, call+"@"+strings.Join(md.Get("containerd-namespace"), ","))
}

type fakeContainers struct {
	containersapi.UnimplementedContainersServer
	*fakeContainerd
}

func (f fakeContainers) Delete(ctx context.Context, r *containersapi.DeleteContainerRequest) (*emptypb.Empty, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.note(ctx, "container delete")

	if f.container == nil {
		return nil, status.Error(codes.NotFound, "no container "+r.GetID())
	}

	f.container = nil

	return &emptypb.Empty{}, nil
}

func (f fakeContainers) Create(ctx context.Context, r *containersapi.CreateContainerRequest) (*containersapi.CreateContainerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.note(ctx, "container create")

	if f.container != nil {
		return nil, status.Error(codes.AlreadyExists, "container exists")
	}

	f.container = r.GetContainer()

	return &containersapi.CreateContainerResponse{Container: f.container}, nil
}

type fakeTasks struct {
	tasksapi.UnimplementedTasksServer
	*fakeContainerd
}

func (f fakeTasks) Create(ctx context.Context, r *tasksapi.CreateTaskRequest) (*tasksapi.CreateTaskResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.note(ctx, "task create")
	f.task, f.running, f.ended, f.stdout = true, false, make(chan struct{}), r.GetStdout()

	return &tasksapi.CreateTaskResponse{ContainerID: r.GetContainerID(), Pid: 4242}, nil
}

func (f fakeTasks) Start(ctx context.Context, _ *tasksapi.StartRequest) (*tasksapi.StartResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.note(ctx, "task start")

	if f.startError != nil {
		return nil, f.startError
	}

	f.running = true

	out, err := os.OpenFile(f.stdout, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer out.Close()

	_, _ = out.WriteString("hello from the container\n")

	if f.endsAtOnce {
		f.end()
	}

	return &tasksapi.StartResponse{Pid: 4242}, nil
}

func (f *fakeContainerd) end() {
	if f.running {
		f.running = false
		close(f.ended)
	}
}

func (f fakeTasks) Wait(ctx context.Context, _ *tasksapi.WaitRequest) (*tasksapi.WaitResponse, error) {
	f.mu.Lock()
	ended, code := f.ended, f.exitCode
	f.mu.Unlock()

	select {
	case <-ended:
		return &tasksapi.WaitResponse{ExitStatus: code}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f fakeTasks) Kill(ctx context.Context, r *tasksapi.KillRequest) (*emptypb.Empty, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.note(ctx, "task kill "+syscall.Signal(r.GetSignal()).String())

	if !f.task {
		return nil, status.Error(codes.NotFound, "no task")
	}

	if !f.stubborn || syscall.Signal(r.GetSignal()) == syscall.SIGKILL {
		f.end()
	}

	return &emptypb.Empty{}, nil
}

func (f fakeTasks) Delete(ctx context.Context, _ *tasksapi.DeleteTaskRequest) (*tasksapi.DeleteResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.note(ctx, "task delete")

	switch {
	case !f.task:
		return nil, status.Error(codes.NotFound, "no task")
	case f.running:
		return nil, status.Error(codes.FailedPrecondition, "task must be stopped before deletion")
	}

	f.task = false

	return &tasksapi.DeleteResponse{}, nil
}

func (f *fakeContainerd) serve(t *testing.T) Containerd {
	t.Helper()

	dir := t.TempDir()

	listener, err := net.Listen("unix", filepath.Join(dir, "c.sock"))
	if err != nil {
		t.Fatal(err)
	}

	server := grpc.NewServer()
	containersapi.RegisterContainersServer(server, fakeContainers{fakeContainerd: f})
	tasksapi.RegisterTasksServer(server, fakeTasks{fakeContainerd: f})

	go func() { _ = server.Serve(listener) }()

	t.Cleanup(server.Stop)

	return Containerd{Socket: filepath.Join(dir, "c.sock"), Grace: 50 * time.Millisecond, FIFODir: filepath.Join(dir, "fifo")}
}

func (f *fakeContainerd) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Clone(f.calls)
}

func (f *fakeContainerd) left() bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.task || f.container != nil
}

type said struct {
	state   supervise.State
	pid     int
	message string
}

func TestContainerThatEnds(t *testing.T) {
	for code, want := range map[uint32]string{0: "", 3: `task "ext-hello" failed: exit code 3`} {
		f := &fakeContainerd{endsAtOnce: true, exitCode: code}
		containerd := f.serve(t)
		output := logs.NewStore().Buffer("ext-hello")

		var reports []said

		err := containerd.Run(t.Context(), "ext-hello", OCI(parse(t, tailscale), inputs()), output, func(state supervise.State, pid int, message string) {
			reports = append(reports, said{state, pid, message})
		})
		if got := errorText(err); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}

		if want := []said{{supervise.StateRunning, 4242, "Started task ext-hello (PID 4242) for container ext-hello"}}; !slices.Equal(reports, want) {
			t.Errorf("%+v", reports)
		}

		if got := output.Tail(-1); got != "hello from the container\n" {
			t.Errorf("output %q", got)
		}

		if f.left() {
			t.Error("the container or its task is still there")
		}

		calls := f.asked()
		for _, c := range calls {
			if !strings.HasSuffix(c, "@system") {
				t.Errorf("%s: want the namespace system", c)
			}
		}

		if i, j := slices.Index(calls, "container delete@system"), slices.Index(calls, "container create@system"); i < 0 || i > j {
			t.Errorf("leftovers are removed first: %q", calls)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}

	return err.Error()
}

func TestLeftoversOfAnEarlierLifeAreRemoved(t *testing.T) {
	f := &fakeContainerd{
		container: &containersapi.Container{ID: "ext-hello"}, task: true, running: true, ended: make(chan struct{}), endsAtOnce: true, stubborn: true,
	}

	if err := f.serve(t).Run(t.Context(), "ext-hello", &specs.Spec{}, &strings.Builder{}, func(supervise.State, int, string) {}); err != nil {
		t.Fatal(err)
	}

	if calls := f.asked(); !slices.Contains(calls, "task kill killed@system") || f.left() {
		t.Fatalf("%q", calls)
	}
}

func TestContainerIsAskedToEndAndThenKilled(t *testing.T) {
	for stubborn, want := range map[bool][]supervise.State{
		false: {supervise.StateRunning, supervise.StateStopping},
		true:  {supervise.StateRunning, supervise.StateStopping, supervise.StateStopping},
	} {
		f := &fakeContainerd{stubborn: stubborn}
		containerd := f.serve(t)
		ctx, stop := context.WithCancel(t.Context())

		var states []supervise.State

		err := containerd.Run(ctx, "ext-hello", &specs.Spec{}, &strings.Builder{}, func(state supervise.State, _ int, _ string) {
			states = append(states, state)

			stop() // it runs: ask it to end
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stubborn %v: %v", stubborn, err)
		}

		if !slices.Equal(states, want) || f.left() {
			t.Errorf("stubborn %v: %v, left over %v", stubborn, states, f.left())
		}

		if killed := slices.Contains(f.asked(), "task kill killed@system"); killed != stubborn {
			t.Errorf("stubborn %v, killed %v: %q", stubborn, killed, f.asked())
		}
	}
}

func TestRefusedStartTellsTheReasonOnly(t *testing.T) {
	f := &fakeContainerd{startError: status.Error(codes.Unknown, "exec: \"/nowhere\": no such file")}

	err := f.serve(t).Run(t.Context(), "ext-hello", OCI(parse(t, tailscale), inputs()), &strings.Builder{}, func(supervise.State, int, string) {
		t.Error("a task that did not start was reported")
	})
	if got := errorText(err); got != `failed to start task "ext-hello": exec: "/nowhere": no such file` {
		t.Fatal(got)
	}

	if strings.Contains(err.Error(), "TS_AUTHKEY") {
		t.Fatal("an error tells a value of the environment")
	}
}

func TestContainerdGetsTheSpecAndRunc(t *testing.T) {
	f := &fakeContainerd{}
	containerd := f.serve(t)
	ctx, stop := context.WithCancel(t.Context())

	_ = containerd.Run(ctx, "ext-hello", OCI(parse(t, tailscale), inputs()), &strings.Builder{}, func(supervise.State, int, string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		defer stop()

		if f.container.GetRuntime().GetName() != "io.containerd.runc.v2" || f.container.GetRuntime().GetOptions().GetTypeUrl() != "containerd.runc.v1.Options" {
			t.Errorf("runtime %v", f.container.GetRuntime())
		}

		var spec specs.Spec
		if err := json.Unmarshal(f.container.GetSpec().GetValue(), &spec); err != nil || spec.Root.Path != "/usr/local/lib/containers/tailscale" {
			t.Errorf("%v %+v", err, spec.Root)
		}
	})
}
