package api

import (
	"context"
	"errors"
	"testing"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
)

func TestKernelLogLine(t *testing.T) {
	boot := time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC)

	for record, want := range map[string]string{
		"14,120,1500000,-;[node] hello\n SUBSYSTEM=x\n": "user: info: [2026-11-21T05:00:01.5Z]: [node] hello\n",
		"3,1,0,-;oops":     "kern: err: [2026-11-21T05:00:00Z]: oops\n",
		"not a record":     "",
		"1,2;short prefix": "",
	} {
		if got := string(formatKmsg([]byte(record), boot)); got != want {
			t.Errorf("%q: got %q, want %q", record, got, want)
		}
	}
}

func TestEventsAreReplayedFromTheirTail(t *testing.T) {
	events := NewEvents()
	for _, name := range []string{"one", "two", "three"} {
		events.Publish(&machineapi.SequenceEvent{Sequence: name})
	}

	enough := errors.New("enough")

	for tail, want := range map[int]int{-1: 3, 2: 2, 9: 3} {
		count := 0
		err := events.Stream(context.Background(), tail, "", func(*machineapi.Event) error {
			if count++; count == want {
				return enough
			}

			return nil
		})

		if !errors.Is(err, enough) {
			t.Errorf("tail %d: %v", tail, err)
		}
	}
}
