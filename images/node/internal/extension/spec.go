// Package extension runs extension services: containers that system extensions bring along, described by a spec under
// /usr/local/etc/containers, with a root file system under /usr/local/lib/containers, and run by containerd.
//
// What is decided (spec.go, conditions.go, config.go, oci.go) is apart from what is done (rootfs.go, task.go).
package extension

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/extensions/services"
	"go.yaml.in/yaml/v4"
)

// Where the image keeps the specs and the root file systems of its extension services; Talos' paths.
const (
	SpecDir   = constants.ExtensionServiceConfigPath
	RootfsDir = constants.ExtensionServiceRootfsPath
)

// ID is the id of the service that runs a spec.
func ID(name string) string { return "ext-" + name }

// Load reads all specs of a directory in the order of their file names. As in Talos a file that is no valid spec costs
// only itself: its error names the file and the reason, and the others are returned.
func Load(dir string) ([]services.Spec, []error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // an image without extension services
	}

	if err != nil {
		return nil, []error{fmt.Errorf("extension services: %w", err)}
	}

	var (
		specs    []services.Spec
		problems []error
		from     = map[string]string{}
	)

	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".yaml" {
			continue
		}

		path := filepath.Join(dir, e.Name())

		spec, err := read(path)
		if err == nil && from[spec.Name] != "" {
			err = fmt.Errorf("the service %q is already described by %s", spec.Name, from[spec.Name])
		}

		if err != nil {
			problems = append(problems, fmt.Errorf("extension service spec %s is left out: %w", path, err))

			continue
		}

		from[spec.Name] = path
		specs = append(specs, spec)
	}

	return specs, problems
}

func read(path string) (services.Spec, error) {
	var spec services.Spec

	content, err := os.ReadFile(path)
	if err != nil {
		return spec, err
	}

	if err := yaml.Unmarshal(content, &spec); err != nil {
		return spec, fmt.Errorf("not the YAML of a spec: %w", err)
	}

	if err := spec.Validate(); err != nil {
		return spec, fmt.Errorf("invalid spec: %w", err)
	}

	return spec, nil
}
