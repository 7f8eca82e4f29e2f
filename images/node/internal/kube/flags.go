// Package kube renders what the Kubernetes components of a node need: flags, kubeconfigs, secrets, manifests; and it
// talks to the API server in plain HTTPS.
//
// Rendering is pure: a machine config and the facts about the node go in, files and arguments come out.
package kube

import (
	"fmt"
	"slices"
	"strings"
)

// Flags are command line flags with all their values.
type Flags map[string][]string

// MergePolicy says what a machine config's extraArgs do to a flag that is set already.
type MergePolicy int

// Policies, as in Talos: most flags are replaced, some lists grow, and what holds the node together is refused.
const (
	Replace MergePolicy = iota
	Add
	Deny
)

// Merge applies extraArgs of a machine config.
func (f Flags) Merge(extra map[string][]string, policies map[string]MergePolicy) error {
	names := make([]string, 0, len(extra))
	for name := range extra {
		names = append(names, name)
	}

	slices.Sort(names)

	for _, name := range names {
		values := extra[name]

		switch policies[name] {
		case Deny:
			return fmt.Errorf("extra argument %q cannot be set: the node sets it itself", name)
		case Add:
			all := append(strings.Split(strings.Join(f[name], ","), ","), strings.Split(strings.Join(values, ","), ",")...)
			f[name] = []string{strings.Join(unique(all), ",")}
		case Replace:
			f[name] = slices.Clone(values)
		}
	}

	return nil
}

func unique(values []string) []string {
	var out []string

	for _, v := range values {
		if v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}

	return out
}

// Args renders the flags in a stable order.
func (f Flags) Args() []string {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}

	slices.Sort(names)

	var args []string

	for _, name := range names {
		for _, value := range f[name] {
			args = append(args, "--"+name+"="+value)
		}
	}

	return args
}

// set overlays single-valued flags.
func (f Flags) set(values map[string]string) {
	for name, value := range values {
		f[name] = []string{value}
	}
}

func denied(names ...string) map[string]MergePolicy {
	policies := map[string]MergePolicy{}
	for _, n := range names {
		policies[n] = Deny
	}

	return policies
}
