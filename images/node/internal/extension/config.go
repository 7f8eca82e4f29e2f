package extension

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// ConfigDir holds the config files of the machine config's ExtensionServiceConfig documents, one directory a service.
const ConfigDir = constants.ExtensionServiceUserConfigPath

// Configs are the ExtensionServiceConfig documents by the name of the service. They hold secrets.
type Configs map[string]runtime.ExtensionServiceConfigSpec

// FromDocuments collects the documents of a machine config.
func FromDocuments(documents []config.ExtensionServiceConfig) Configs {
	out := Configs{}

	for _, d := range documents {
		spec := runtime.ExtensionServiceConfigSpec{Environment: d.Environment()}

		for _, f := range d.ConfigFiles() {
			spec.Files = append(spec.Files, runtime.ExtensionServiceConfigFile{Content: f.Content(), MountPath: f.MountPath()})
		}

		out[d.Name()] = spec
	}

	return out
}

// FilePath is where the content of a config file is kept on the node.
func FilePath(dir, service, mountPath string) string {
	return filepath.Join(dir, service, strings.ReplaceAll(strings.Trim(filepath.Clean(mountPath), "/"), "/", "-"))
}

// ChangeKind says what happened to the document of a service.
type ChangeKind string

// What can happen to a document.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Removed ChangeKind = "removed"
)

// Change is what a new machine config means for one service.
type Change struct {
	Name string
	Kind ChangeKind
}

// Compare lists what differs, sorted by name.
func Compare(before, after Configs) []Change {
	var out []Change

	for _, name := range slices.Sorted(maps.Keys(after)) {
		old, had := before[name]

		switch {
		case !had:
			out = append(out, Change{name, Added})
		case !reflect.DeepEqual(old, after[name]):
			out = append(out, Change{name, Changed})
		}
	}

	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, stays := after[name]; !stays {
			out = append(out, Change{name, Removed})
		}
	}

	return out
}

// NeedsRestart decides whether the service of a changed document is stopped and started again; it then waits for its
// document again when there is none. started tells that it was started and has not ended, waiting included.
//
// As in Talos a first document restarts nothing that was started: a service that waits for it is released by it, and
// one that does not wait takes it at its next start. A service that has ended is started by any document.
func (c Change) NeedsRestart(started bool) bool { return !(c.Kind == Added && started) }
