// Command machined is PID 1 of the reference node: a small agent that speaks the Talos machine API and starts the real
// programs of a Kubernetes node. It is not Talos.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
	"lab/images/node/internal/disk"
	"lab/images/node/internal/machine"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "machined is the init process of a reference node and does nothing elsewhere")
		os.Exit(2)
	}

	// The agent is small; collecting garbage less often saves time that the components need.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(64 << 20)

	if err := console.Open(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}

	err := machine.Run(context.Background())

	console.Printf("the node cannot go on: %v", err)

	if errors.Is(err, disk.ErrNotInstalled) {
		console.Printf("halting: %v", err)
		unix.Sync()
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}

	// As Talos: the reason stays readable on the console for a moment, then the machine tries again.
	console.Printf("rebooting in %s", rebootDelay)
	time.Sleep(rebootDelay)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	os.Exit(1)
}

// rebootDelay is the time between the reason of a failed boot and the reboot.
const rebootDelay = 10 * time.Second
