// Package bootargs reads the kernel command line and checks what a Talos node demands of it.
package bootargs

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Contract is the generation of the machine API that the node speaks in maintenance mode.
type Contract string

// The generations that can be chosen with the kernel argument lab.talos-contract.
const (
	ContractV111 Contract = "v1.11"
	ContractV112 Contract = "v1.12"
	ContractV113 Contract = "v1.13"
)

// DefaultBootTimeout is how long StartAllServices waits for every loaded service, as in Talos.
const DefaultBootTimeout = 70 * time.Minute

// Args is what the agent takes from the kernel command line.
type Args struct {
	Raw         string
	Contract    Contract
	BootTimeout time.Duration
	// Architecture is what Version reports, unless it is what the agent was compiled for.
	Architecture string
	// Switches hold the "lab.speed.NAME=on|off" arguments, see package kube.
	Switches map[string]bool
}

// required are the arguments without which a Talos node reboots (its kernel self-protection check).
var required = []struct{ key, value string }{
	{"talos.platform", "metal"},
	{"slab_nomerge", ""},
	{"pti", "on"},
}

// Read parses the command line of the running kernel.
func Read() (Args, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Args{}, fmt.Errorf("read kernel arguments: %w", err)
	}

	return Parse(strings.TrimSpace(string(b)))
}

// Parse checks a kernel command line. The error names every argument that is missing.
func Parse(cmdline string) (Args, error) {
	args := Args{Raw: cmdline, Contract: ContractV113, BootTimeout: DefaultBootTimeout, Architecture: runtime.GOARCH, Switches: map[string]bool{}}
	given := map[string]string{}

	for field := range strings.FieldsSeq(cmdline) {
		key, value, _ := strings.Cut(field, "=")
		given[key] = value

		if name, ok := strings.CutPrefix(key, "lab.speed."); ok {
			args.Switches[name] = value != "off"
		}
	}

	var missing []string

	for _, want := range required {
		value, ok := given[want.key]
		if !ok || want.value != "" && value != want.value {
			name := want.key
			if want.value != "" {
				name += "=" + want.value
			}

			missing = append(missing, name)
		}
	}

	if len(missing) > 0 {
		return args, fmt.Errorf("kernel arguments missing: %s (given: %q)", strings.Join(missing, " "), cmdline)
	}

	if v, ok := given["lab.talos-contract"]; ok {
		switch Contract(v) {
		case ContractV111, ContractV112, ContractV113:
			args.Contract = Contract(v)
		default:
			return args, fmt.Errorf("kernel argument lab.talos-contract=%s: known are %s, %s and %s", v, ContractV111, ContractV112, ContractV113)
		}
	}

	if v, ok := given["lab.boot-timeout"]; ok {
		seconds, err := strconv.Atoi(v)
		if err != nil || seconds <= 0 {
			return args, fmt.Errorf("kernel argument lab.boot-timeout=%s: want a positive number of seconds", v)
		}

		args.BootTimeout = time.Duration(seconds) * time.Second
	}

	if v, ok := given["lab.architecture"]; ok {
		args.Architecture = v
	}

	return args, nil
}

// Switch tells whether a switch is on; all are unless the kernel argument says off.
func (a Args) Switch(name string) bool {
	on, given := a.Switches[name]

	return on || !given
}
