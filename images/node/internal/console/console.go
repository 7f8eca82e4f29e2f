// Package console prints what the agent does to the kernel log, from where it reaches the serial console and Dmesg.
//
// Every line is one message; Milestone adds the seconds since the kernel started, so that whoever watches the console
// can tell phases apart without a clock of its own.
package console

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxLine is the most that the kernel takes in one record (LOG_LINE_MAX minus its prefix, Documentation/ABI/testing/dev-kmsg).
const maxLine = 900

var (
	mu  sync.Mutex
	out *os.File
)

// Open directs the output to /dev/kmsg; before that, and where there is none, lines go to standard error.
func Open() error {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/kmsg for console output: %w", err)
	}

	mu.Lock()
	out = f
	mu.Unlock()

	return nil
}

// Printf writes one line, or one record a line when the text has several.
func Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)

	mu.Lock()
	defer mu.Unlock()

	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if len(line) > maxLine {
			line = line[:maxLine] + "…"
		}

		if out == nil {
			fmt.Fprintf(os.Stderr, "[node] %s\n", line)

			continue
		}

		// <14> is facility user, severity info: shown on the console at the default log level.
		fmt.Fprintf(out, "<14>[node] %s\n", line)
	}
}

// Uptime is the number of seconds since the kernel started.
func Uptime() float64 {
	var ts unix.Timespec

	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}

	return float64(ts.Sec) + float64(ts.Nsec)/1e9
}

// Milestone prints a step of the boot with its time; the lab reads these lines: "milestone NAME at SECONDS".
func Milestone(name string) {
	Printf("milestone %s at %.2f", name, Uptime())
}
