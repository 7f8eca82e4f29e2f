// Package bundle turns an OCI bundle whose process is a WebAssembly module into one whose process is the runner with that
// module as its argument. Every other bundle is left as it is, to the byte.
//
// The fields of config.json are those of the OCI runtime specification 1.2: root.path, process.args, process.cwd,
// process.env, mounts. All else in the file is carried over unread.
package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Mountpoint is where the container sees the runner. The folder does not exist in the image; runc makes it in the
// container's own writable layer.
const Mountpoint = "/.wasm-run/run"

const (
	errNotDirectory = syscall.ENOTDIR
	errNameTooLong  = syscall.ENAMETOOLONG
)

// defaultPath is what runc looks through when the process has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Manifest is the Spin manifest of an image. Like Spin's shim, the runtime serves it whatever the entrypoint is.
const Manifest = "/spin.toml"

// spinFlag is the runner's flag for manifests.
const spinFlag = "--spin"

// Prepare rewrites the config.json of the bundle in folder when the image has a Spin manifest, or its process is a
// WebAssembly module, so that the host's program runner runs it. It returns the path of the manifest or the module inside
// the container, empty when there was nothing to do.
//
// An error means that the bundle could not be read or written, or that it is not clear which module is meant.
func Prepare(folder, runner string) (string, error) {
	file := filepath.Join(folder, "config.json")

	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the bundle: %w", err)
	}

	config, err := decode(content)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", file, err)
	}

	settings, ok := config["process"].(map[string]any)
	if !ok {
		return "", nil // allowed by the specification before start; runc decides
	}

	root := rootPath(folder, config)
	process := processOf(settings)

	manifest, err := isFile(root, Manifest)
	if err != nil {
		return "", err
	}

	found := Manifest
	if !manifest {
		found, err = findModule(root, process)
	}

	if err != nil || found == "" {
		return "", err
	}

	if _, err := os.Stat(runner); err != nil {
		return "", fmt.Errorf("%s is for WebAssembly, but the runner is not on the node: %w", found, err)
	}

	arguments := []string{spinFlag, found}
	if !manifest {
		arguments = append([]string{found}, process.args[min(1, len(process.args)):]...)
	}

	apply(config, settings, arguments, runner)

	if err := replace(file, config); err != nil {
		return "", fmt.Errorf("rewriting %s for %s: %w", file, found, err)
	}

	return found, nil
}

// decode keeps numbers as they are written: device numbers and limits do not fit a float.
func decode(content []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()

	config := map[string]any{}
	if err := decoder.Decode(&config); err != nil {
		return nil, err
	}

	return config, nil
}

func rootPath(folder string, config map[string]any) string {
	root, _ := config["root"].(map[string]any)
	name, _ := root["path"].(string)

	if filepath.IsAbs(name) {
		return name
	}

	return filepath.Join(folder, name)
}

func processOf(settings map[string]any) process {
	found := process{args: texts(settings["args"]), path: filepath.SplitList(defaultPath)}
	found.cwd, _ = settings["cwd"].(string)

	for _, variable := range texts(settings["env"]) {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			found.path = filepath.SplitList(value)
		}
	}

	return found
}

func texts(value any) []string {
	list, _ := value.([]any)
	found := make([]string, 0, len(list))

	for _, entry := range list {
		text, _ := entry.(string)
		found = append(found, text)
	}

	return found
}

// apply makes the runner the process. A module sees its own path as its first argument, as a program does.
func apply(config, settings map[string]any, arguments []string, runner string) {
	args := []any{Mountpoint}
	for _, argument := range arguments {
		args = append(args, argument)
	}

	settings["args"] = args

	mounts, _ := config["mounts"].([]any)
	config["mounts"] = append(mounts, map[string]any{
		"destination": Mountpoint,
		"type":        "bind",
		"source":      runner,
		"options":     []any{"bind", "ro", "nosuid", "nodev"},
	})
}

// replace writes the file in one step, so that a reader never sees half of it.
func replace(file string, config map[string]any) (err error) {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}

	// Compact, without HTML escapes, as containerd itself writes it.
	var content bytes.Buffer

	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)

	if err := encoder.Encode(config); err != nil {
		return err
	}

	draft := file + ".wasm"

	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(draft)))
		}
	}()

	if err := os.WriteFile(draft, content.Bytes(), info.Mode().Perm()); err != nil {
		return err
	}

	return os.Rename(draft, file)
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}

	return err
}
