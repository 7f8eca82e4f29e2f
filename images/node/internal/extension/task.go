package extension

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"lab/images/node/internal/supervise"
)

const (
	// runtimeName is containerd's runtime for runc.
	runtimeName = "io.containerd.runc.v2"
	runcBinary  = "/usr/sbin/runc"
	// specURL is the type under which containerd keeps runtime specs in their JSON form.
	specURL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
	// cleanTimeout bounds the removal of a container; containerd answers in milliseconds when it answers at all.
	cleanTimeout = 10 * time.Second
)

// Containerd runs containers through containerd's own API (its generated stubs; the client library would triple the
// time that the agent takes to start).
type Containerd struct {
	Socket string
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration
	// FIFODir is where the pipes of containers' output are made.
	FIFODir string
}

// Run runs one container until it ends or the context does, and leaves nothing of it behind. An exit status other than
// zero is an error. Leftovers of an earlier life (containerd keeps containers on disk) are removed first.
func (c Containerd) Run(ctx context.Context, id string, spec *specs.Spec, output io.Writer, report supervise.Report) error {
	conn, err := grpc.NewClient("unix://"+c.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to containerd at %s: %w", c.Socket, err)
	}
	defer conn.Close()

	// The end of ctx asks the container to end; it must not cut off the calls that do so.
	calls := metadata.AppendToOutgoingContext(context.WithoutCancel(ctx), "containerd-namespace", constants.SystemContainerdNamespace)
	task := &task{
		id: id, calls: calls, grace: c.Grace, report: report,
		containers: containersapi.NewContainersClient(conn), tasks: tasksapi.NewTasksClient(conn),
	}

	if err := task.remove(); err != nil {
		return fmt.Errorf("remove what an earlier life left of %s: %w", id, err)
	}

	if err := task.createContainer(spec); err != nil {
		return err
	}

	// Named: the outcome of the run matters more than that of the clean-up.
	err = task.run(ctx, c.FIFODir, output)
	if cleaned := task.remove(); err == nil {
		err = cleaned
	}

	return err
}

type task struct {
	id         string
	calls      context.Context
	grace      time.Duration
	report     supervise.Report
	containers containersapi.ContainersClient
	tasks      tasksapi.TasksClient
}

func (t *task) createContainer(spec *specs.Spec) error {
	content, err := json.Marshal(spec)
	if err != nil {
		return err
	}

	// The type URL is the bare name: containerd's typeurl registers it so.
	options, err := proto.Marshal(&runcoptions.Options{BinaryName: runcBinary})
	if err != nil {
		return err
	}

	_, err = t.containers.Create(t.calls, &containersapi.CreateContainerRequest{Container: &containersapi.Container{
		ID: t.id,
		Runtime: &containersapi.Container_Runtime{
			Name:    runtimeName,
			Options: &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: options},
		},
		Spec: &anypb.Any{TypeUrl: specURL, Value: content},
	}})
	if err != nil {
		return fmt.Errorf("failed to create container %q: %w", t.id, plain(err))
	}

	return nil
}

// run creates, starts and awaits the task.
func (t *task) run(ctx context.Context, fifoDir string, output io.Writer) error {
	pipes, err := openPipes(fifoDir, t.id, output)
	if err != nil {
		return err
	}

	defer pipes.close() // after the task is gone, so that its last lines are in the pipes

	created, err := t.tasks.Create(t.calls, &tasksapi.CreateTaskRequest{ContainerID: t.id, Stdout: pipes.stdout, Stderr: pipes.stderr})
	if err != nil {
		return fmt.Errorf("failed to create task %q: %w", t.id, plain(err))
	}

	defer func() { _ = t.removeTask() }() // Run removes again, and tells

	type outcome struct {
		code uint32
		err  error
	}

	ended := make(chan outcome, 1)
	waiting, stopWaiting := context.WithCancel(t.calls)

	defer stopWaiting()

	go func() { // asked before the start, so that the end of a short life is not missed
		r, err := t.tasks.Wait(waiting, &tasksapi.WaitRequest{ContainerID: t.id})
		ended <- outcome{r.GetExitStatus(), err}
	}()

	if _, err := t.tasks.Start(t.calls, &tasksapi.StartRequest{ContainerID: t.id}); err != nil {
		return fmt.Errorf("failed to start task %q: %w", t.id, plain(err))
	}

	pid := int(created.GetPid())
	t.report(supervise.StateRunning, pid, fmt.Sprintf("Started task %s (PID %d) for container %s", t.id, pid, t.id))

	select {
	case end := <-ended:
		switch {
		case end.err != nil:
			return fmt.Errorf("failed waiting for task %q: %w", t.id, plain(end.err))
		case end.code != 0:
			return fmt.Errorf("task %q failed: exit code %d", t.id, end.code)
		default:
			return nil
		}
	case <-ctx.Done():
	}

	t.report(supervise.StateStopping, pid, fmt.Sprintf("Sending SIGTERM to task %s (PID %d, container %s)", t.id, pid, t.id))

	if err := t.kill(t.calls, syscall.SIGTERM); err != nil {
		return fmt.Errorf("error sending SIGTERM: %w", plain(err))
	}

	select {
	case <-ended:
		return ctx.Err()
	case <-time.After(t.grace):
	}

	t.report(supervise.StateStopping, pid, fmt.Sprintf("Sending SIGKILL to task %s (PID %d, container %s)", t.id, pid, t.id))

	return ctx.Err() // removeTask sends it and waits for the end
}

func (t *task) kill(ctx context.Context, signal syscall.Signal) error {
	_, err := t.tasks.Kill(ctx, &tasksapi.KillRequest{ContainerID: t.id, Signal: uint32(signal), All: true})

	return unlessNotFound(err)
}

// remove removes the task, when there is one, and the container.
func (t *task) remove() error {
	if err := t.removeTask(); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(t.calls, cleanTimeout)
	defer cancel()

	_, err := t.containers.Delete(ctx, &containersapi.DeleteContainerRequest{ID: t.id})
	if err := unlessNotFound(err); err != nil {
		return fmt.Errorf("delete container %q: %w", t.id, plain(err))
	}

	return nil
}

func (t *task) removeTask() error {
	ctx, cancel := context.WithTimeout(t.calls, cleanTimeout)
	defer cancel()

	_, err := t.tasks.Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: t.id})
	if unlessNotFound(err) == nil {
		return nil // it had ended, or never was
	}

	if err := t.kill(ctx, syscall.SIGKILL); err != nil && status.Code(err) != codes.FailedPrecondition {
		return fmt.Errorf("kill task %q: %w", t.id, plain(err))
	}

	if _, err := t.tasks.Wait(ctx, &tasksapi.WaitRequest{ContainerID: t.id}); unlessNotFound(err) != nil {
		return fmt.Errorf("wait for the end of task %q: %w", t.id, plain(err))
	}

	if _, err := t.tasks.Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: t.id}); unlessNotFound(err) != nil {
		return fmt.Errorf("delete task %q: %w", t.id, plain(err))
	}

	return nil
}

func unlessNotFound(err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}

	return err
}

// plain is the text of a gRPC error without its frame.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(s.Message())
	}

	return err
}
