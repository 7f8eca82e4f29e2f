package logs

import (
	"context"
	"strings"
	"testing"
)

func TestTailGivesTheLastLines(t *testing.T) {
	b := NewStore().Buffer("x")
	b.Printf("one")
	b.Printf("two")
	b.Printf("three")

	for n, want := range map[int]string{-1: "one\ntwo\nthree\n", 0: "", 1: "three\n", 2: "two\nthree\n", 9: "one\ntwo\nthree\n"} {
		if got := b.Tail(n); got != want {
			t.Errorf("Tail(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestOldOutputIsForgotten(t *testing.T) {
	b := NewStore().Buffer("x")
	line := strings.Repeat("x", 1023)

	for range 2048 {
		b.Printf("%s", line)
	}

	if got := len(b.Tail(-1)); got > capacity+capacity/4 || got < capacity/2 {
		t.Fatalf("%d bytes are kept", got)
	}
}

func TestFollowSeesWhatIsWrittenLater(t *testing.T) {
	b := NewStore().Buffer("x")
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 1)

	go b.Stream(ctx, 0, true, func(p []byte) error { got <- string(p); return nil })

	// The writer may come before the reader has taken its position: write until it is seen.
	for {
		b.Printf("late")
		select {
		case line := <-got:
			cancel()
			if !strings.HasPrefix(line, "late\n") {
				t.Fatal(line)
			}
			return
		default:
		}
	}
}
