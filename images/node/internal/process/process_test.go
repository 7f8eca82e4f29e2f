package process

import (
	"strings"
	"testing"
	"time"
)

func TestReaper(t *testing.T) {
	r := NewReaper()

	if out, err := r.Run(t.Context(), "/bin/echo", "hello"); err != nil || out != "hello\n" {
		t.Fatalf("%q %v", out, err)
	}

	if _, err := r.Run(t.Context(), "/bin/sh", "-c", "exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("got %v", err)
	}

	p, err := r.Start(Command{Path: "/bin/sleep", Args: []string{"60"}})
	if err != nil {
		t.Fatal(err)
	}

	p.Stop(5 * time.Second)

	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Fatalf("got %v", err)
	}
}
