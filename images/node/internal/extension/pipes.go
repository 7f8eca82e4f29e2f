package extension

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lastOutput is how long a pipe may be silent after the task is gone before it counts as empty.
const lastOutput = 100 * time.Millisecond

// pipes carry a container's output: containerd's shim writes to them by path.
type pipes struct {
	stdout, stderr string
	files          []*os.File
	dir            string
	copies         sync.WaitGroup
}

func openPipes(dir, id string, output io.Writer) (*pipes, error) {
	own := filepath.Join(dir, id)
	p := &pipes{stdout: own + "/stdout", stderr: own + "/stderr", dir: own}

	if err := os.RemoveAll(own); err != nil {
		return nil, err
	}

	if err := os.MkdirAll(own, 0o700); err != nil {
		return nil, fmt.Errorf("directory for the output of %s: %w", id, err)
	}

	shared := &lockedWriter{w: output}

	for _, path := range []string{p.stdout, p.stderr} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			p.close()

			return nil, fmt.Errorf("pipe for the output of %s: %w", id, err)
		}

		// Open for writing too: otherwise a read says "end of file" until the shim has opened its side.
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			p.close()

			return nil, fmt.Errorf("pipe for the output of %s: %w", id, err)
		}

		p.files = append(p.files, f)
		p.copies.Go(func() { _, _ = io.Copy(shared, f) }) // ends with the deadline that close sets
	}

	return p, nil
}

// close passes on what is left in the pipes and removes them.
func (p *pipes) close() {
	for _, f := range p.files {
		_ = f.SetReadDeadline(time.Now().Add(lastOutput))
	}

	p.copies.Wait()

	for _, f := range p.files {
		f.Close()
	}

	_ = os.RemoveAll(p.dir)
}

// lockedWriter keeps the writes of the two pipes apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.w.Write(b)
}
