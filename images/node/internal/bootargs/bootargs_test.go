package bootargs

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	const good = "console=ttyAMA0 talos.platform=metal slab_nomerge pti=on"

	for name, tc := range map[string]struct {
		cmdline  string
		err      string
		contract Contract
		timeout  time.Duration
		arch     string
	}{
		"complete":                {cmdline: good, contract: ContractV113, timeout: DefaultBootTimeout},
		"slab_nomerge with equal": {cmdline: "talos.platform=metal slab_nomerge= pti=on", contract: ContractV113, timeout: DefaultBootTimeout},
		"older contract":          {cmdline: good + " lab.talos-contract=v1.11", contract: ContractV111, timeout: DefaultBootTimeout},
		"the contract between":    {cmdline: good + " lab.talos-contract=v1.12", contract: ContractV112, timeout: DefaultBootTimeout},
		"short boot timeout":      {cmdline: good + " lab.boot-timeout=90", contract: ContractV113, timeout: 90 * time.Second},
		"another architecture":    {cmdline: good + " lab.architecture=amd64", contract: ContractV113, timeout: DefaultBootTimeout, arch: "amd64"},
		"empty":                   {cmdline: "", err: "talos.platform=metal slab_nomerge pti=on"},
		"pti off":                 {cmdline: "talos.platform=metal slab_nomerge pti=off", err: "missing: pti=on"},
		"other platform":          {cmdline: "talos.platform=aws slab_nomerge pti=on", err: "missing: talos.platform=metal"},
		"unknown contract":        {cmdline: good + " lab.talos-contract=v0.1", err: "known are v1.11, v1.12 and v1.13"},
		"timeout not a number":    {cmdline: good + " lab.boot-timeout=soon", err: "positive number of seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			args, err := Parse(tc.cmdline)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("want an error with %q, got %v", tc.err, err)
				}

				return
			}

			if err != nil {
				t.Fatal(err)
			}

			if tc.arch == "" {
				tc.arch = runtime.GOARCH
			}

			if args.Contract != tc.contract || args.BootTimeout != tc.timeout || args.Architecture != tc.arch {
				t.Fatalf("got %+v", args)
			}
		})
	}
}
