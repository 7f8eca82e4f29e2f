// Package process starts child processes and collects every exit status, as PID 1 must.
//
// One goroutine waits for all children (also for orphans that the kernel hands to PID 1) and gives each known child
// its status; therefore nothing else in the agent may use os/exec or wait4.
package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program to run.
type Command struct {
	Path string
	Args []string // without the program's name
	Env  []string
	Dir  string
	// Cgroup is the path under /sys/fs/cgroup that the process starts in; empty means the agent's own.
	Cgroup string
	Output io.Writer
}

// Process is a running child.
type Process struct {
	PID  int
	done chan struct{}
	// copied is closed when all output has been passed on.
	copied chan struct{}
	// status is valid once done is closed.
	status unix.WaitStatus
}

// Reaper collects exit statuses.
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Process
}

// NewReaper starts collecting; call it once, before any child is started.
func NewReaper() *Reaper {
	r := &Reaper{children: map[int]*Process{}}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGCHLD)

	go func() {
		for range signals {
			r.collect()
		}
	}()

	return r
}

func (r *Reaper) collect() {
	for {
		var status unix.WaitStatus

		// The lock is held over wait4 so that a child that ends at once is known before it is collected.
		r.mu.Lock()
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)

		if err == unix.EINTR {
			r.mu.Unlock()

			continue
		}

		if err != nil || pid <= 0 {
			r.mu.Unlock()

			return
		}

		if p, ok := r.children[pid]; ok {
			delete(r.children, pid)
			p.status = status
			close(p.done)
		}
		r.mu.Unlock()
	}
}

// Start runs a command; its output is copied to Output until the last writer closes it.
func (r *Reaper) Start(c Command) (*Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()

	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()

	attr := &os.ProcAttr{
		Dir:   c.Dir,
		Env:   c.Env,
		Files: []*os.File{null, write, write},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}

	if c.Cgroup != "" {
		dir, err := openCgroup(c.Cgroup)
		if err != nil {
			read.Close()

			return nil, err
		}
		defer dir.Close()

		attr.Sys.UseCgroupFD = true
		attr.Sys.CgroupFD = int(dir.Fd())
	}

	r.mu.Lock()

	child, err := os.StartProcess(c.Path, append([]string{c.Path}, c.Args...), attr)
	if err != nil {
		r.mu.Unlock()
		read.Close()

		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}

	p := &Process{PID: child.Pid, done: make(chan struct{}), copied: make(chan struct{})}
	r.children[p.PID] = p
	r.mu.Unlock()

	_ = child.Release() // the reaper waits, not os.Process

	go func() {
		out := c.Output
		if out == nil {
			out = io.Discard
		}

		_, _ = io.Copy(out, read)
		read.Close()
		close(p.copied)
	}()

	return p, nil
}

func openCgroup(path string) (*os.File, error) {
	dir := filepath.Join("/sys/fs/cgroup", path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the control group %s: %w", path, err)
	}

	return os.Open(dir)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how an ended process ended; nil is exit status 0.
func (p *Process) Err() error {
	switch {
	case p.status.Signaled():
		return fmt.Errorf("killed by signal %s", p.status.Signal())
	case p.status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", p.status.ExitStatus())
	default:
		return nil
	}
}

// Stop asks the process to end and kills it after the grace period.
func (p *Process) Stop(grace time.Duration) {
	select {
	case <-p.done:
		return
	default:
	}

	_ = unix.Kill(p.PID, unix.SIGTERM)

	select {
	case <-p.done:
	case <-time.After(grace):
		_ = unix.Kill(p.PID, unix.SIGKILL)
		<-p.done
	}
}

// Run runs a short command to its end and returns its output; a failure quotes the last of it.
func (r *Reaper) Run(ctx context.Context, path string, args ...string) (string, error) {
	var out lockedBuilder

	p, err := r.Start(Command{Path: path, Args: args, Output: &out, Env: []string{"PATH=/usr/sbin:/usr/bin"}})
	if err != nil {
		return "", err
	}

	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(time.Second)

		return out.String(), fmt.Errorf("%s %s: %w", path, strings.Join(args, " "), ctx.Err())
	}

	<-p.copied // the exit may be known before the last output

	if err := p.Err(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", path, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}

	return out.String(), nil
}

// lockedBuilder collects output that another goroutine copies.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.b.String()
}
