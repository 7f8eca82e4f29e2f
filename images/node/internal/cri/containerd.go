// Package cri configures containerd, the container runtime of the node.
package cri

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"
	"github.com/siderolabs/talos/pkg/machinery/constants"
)

const (
	// ConfigFile is containerd's configuration, as in Talos.
	ConfigFile = "/etc/cri/containerd.toml"
	// MergedFile is where Talos keeps the configuration merged from its parts; readers look for it there.
	MergedFile = "/etc/" + constants.CRIConfig
	// PartsGlob are fragments that system extensions and machine.files add, merged over the base.
	PartsGlob = "/etc/cri/conf.d/*.part"
	// Socket is where containerd serves both its own API and the CRI.
	Socket = "/run/containerd/containerd.sock"
	// SandboxImage is Talos' default for pods' sandboxes.
	SandboxImage = "registry.k8s.io/pause:3.10"
)

// criPlugin is the CRI plugin of containerd 1.7, which the image ships.
const criPlugin = "io.containerd.grpc.v1.cri"

// newerNames are what containerd 2 splits that plugin into. Extensions made for recent Talos releases use them.
var newerNames = []string{"io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"}

// base is the configuration without extensions. Plugins are switched off that no pod of a node uses: each costs time
// at the start.
const base = `
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.native", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.nri.v1.nri",
]
[debug]
level = "warn"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.k8s.io/pause:3.10"
enable_unprivileged_ports = true
enable_unprivileged_icmp = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
discard_unpacked_layers = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/cri/conf.d/hosts"
`

// Render merges fragments over the base, in the order of their names.
func Render(parts map[string][]byte) ([]byte, error) {
	config := map[string]any{}
	if err := toml.Unmarshal([]byte(base), &config); err != nil {
		return nil, fmt.Errorf("base configuration of containerd: %w", err)
	}

	for _, name := range slices.Sorted(maps.Keys(parts)) {
		part := map[string]any{}
		if err := toml.Unmarshal(parts[name], &part); err != nil {
			return nil, fmt.Errorf("containerd configuration fragment %s: %w", name, err)
		}

		delete(part, "version") // translated below, so the base's version holds
		translate(part)
		merge(config, part)
	}

	return toml.Marshal(config)
}

// translate moves settings of containerd 2's CRI plugins to where containerd 1.7 has them.
func translate(part map[string]any) {
	plugins, _ := part["plugins"].(map[string]any)

	for _, name := range newerNames {
		settings, ok := plugins[name].(map[string]any)
		if !ok {
			continue
		}

		delete(plugins, name)

		target, _ := plugins[criPlugin].(map[string]any)
		if target == nil {
			target = map[string]any{}
			plugins[criPlugin] = target
		}

		merge(target, settings)
	}
}

// merge lays b over a: tables are merged, lists grow, everything else is replaced.
func merge(a, b map[string]any) {
	for key, value := range b {
		switch value := value.(type) {
		case map[string]any:
			if old, ok := a[key].(map[string]any); ok {
				merge(old, value)

				continue
			}

			a[key] = value
		case []any:
			old, _ := a[key].([]any)
			a[key] = append(slices.Clone(old), value...)
		default:
			a[key] = value
		}
	}
}

// WriteConfig renders the configuration with the fragments that are on the node.
func WriteConfig() error {
	names, err := filepath.Glob(PartsGlob)
	if err != nil {
		return err
	}

	parts := map[string][]byte{}

	for _, name := range names {
		if parts[name], err = os.ReadFile(name); err != nil {
			return err
		}
	}

	content, err := Render(parts)
	if err != nil {
		return err
	}

	for _, name := range []string{ConfigFile, MergedFile} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}

		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
	}

	return nil
}
