// Package clock sets the system time from NTP.
package clock

import (
	"context"
	"fmt"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
)

// tolerance is the offset below which the clock is left alone; TLS and leases do not care about less.
const tolerance = 100 * time.Millisecond

// resync is how often the time is asked for again: a machine restored from a snapshot wakes up in the past, and
// nothing in the guest tells it so.
const resync = 2 * time.Second

// Sync asks the servers in turn until one answers and sets the clock. It gives up only with the context.
func Sync(ctx context.Context, servers []string) error {
	for attempt := 0; ; attempt++ {
		for _, server := range servers {
			offset, err := query(server)
			if err == nil {
				return step(offset, server)
			}

			if attempt%10 == 9 {
				console.Printf("time server %s does not answer: %v", server, err)
			}
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// Keep corrects the clock until the context ends.
func Keep(ctx context.Context, servers []string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(resync):
		}

		for _, server := range servers {
			if offset, err := query(server); err == nil {
				if err := step(offset, server); err != nil {
					console.Printf("clock: %v", err)
				}

				break
			}
		}
	}
}

func query(server string) (time.Duration, error) {
	response, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: time.Second})
	if err != nil {
		return 0, err
	}

	return response.ClockOffset, response.Validate()
}

func step(offset time.Duration, server string) error {
	if offset.Abs() < tolerance {
		return nil
	}

	ts := unix.NsecToTimespec(time.Now().Add(offset).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock by %s as %s says: %w", offset, server, err)
	}

	console.Printf("clock set by %s from time server %s", offset.Round(time.Millisecond), server)

	return nil
}
