package extension

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"golang.org/x/sys/unix"
)

// overlayDir holds what containers change in their root file systems; it is in memory, so every start of a service
// finds the file system as its extension made it.
const overlayDir = "/run/overlay/extensions"

// MountRootfs lays a fresh writable layer over the root file system of a service, as Talos does: the image is
// read-only, and the container runtime has to make mount points in it.
func MountRootfs(name string) (string, error) {
	target := filepath.Join(RootfsDir, name)
	if info, err := os.Stat(target); err != nil || !info.IsDir() {
		return "", fmt.Errorf("the extension's layer has no root file system for the service %q: want the directory %s", name, target)
	}

	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
		return "", fmt.Errorf("unmount the root file system of the last run from %s: %w", target, err)
	}

	base := filepath.Join(overlayDir, name)
	upper, work := base+"/upper", base+"/work"

	if err := os.RemoveAll(base); err != nil {
		return "", err
	}

	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return "", err
	}

	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", target, upper, work)
	if err := unix.Mount("overlay", target, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("make %s writable with an overlay: %w", target, err)
	}

	return target, nil
}

// MakeSources makes the missing directory that is the source of each mount of a spec. Like Talos (extension.go of its
// services) it does so whatever the type of the mount, so that a file system's name for a source is a directory of the
// read-only root, and an error.
func MakeSources(mounts []specs.Mount) error {
	for _, m := range mounts {
		_, err := os.Stat(m.Source)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(m.Source, 0o700)
		}

		if err != nil {
			return fmt.Errorf("source of the mount at %s: %w (missing directories are made where the node is writable: below /var, /run, /system)", m.Destination, err)
		}
	}

	return nil
}

// WriteFiles replaces the config files of a service; none are left when it has no document.
func WriteFiles(dir, name string, files []runtime.ExtensionServiceConfigFile) error {
	own := filepath.Join(dir, name)
	if len(files) == 0 {
		return os.RemoveAll(own)
	}

	if err := os.MkdirAll(own, 0o700); err != nil {
		return err
	}

	var written []string

	for _, f := range files {
		path := FilePath(dir, name, f.MountPath)
		// A new file replaces the old one: a container that runs keeps what it has mounted.
		if err := os.WriteFile(path+".new", []byte(f.Content), 0o600); err != nil {
			return fmt.Errorf("config file %s of the extension service %q: %w", f.MountPath, name, err)
		}

		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("config file %s of the extension service %q: %w", f.MountPath, name, err)
		}

		written = append(written, filepath.Base(path))
	}

	entries, err := os.ReadDir(own)
	if err != nil {
		return err
	}

	for _, e := range entries {
		if !slices.Contains(written, e.Name()) {
			if err := os.Remove(filepath.Join(own, e.Name())); err != nil {
				return err
			}
		}
	}

	return nil
}

// ReadEnvironmentFile reads the variables of a file with a NAME=VALUE a line. Errors tell lines, never values.
func ReadEnvironmentFile(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}

	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("environment file: %w", err)
	}

	var out []string

	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}

		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("environment file %s: line %d is not NAME=VALUE", path, i+1)
		}

		value = strings.TrimSpace(value)

		switch {
		case strings.HasPrefix(value, `"`):
			if value, err = strconv.Unquote(value); err != nil {
				return nil, fmt.Errorf("environment file %s: line %d: the quotes do not match", path, i+1)
			}
		case len(value) >= 2 && value[0] == '\'' && value[len(value)-1] == '\'':
			value = value[1 : len(value)-1]
		}

		out = append(out, name+"="+value)
	}

	return out, nil
}

// OwnCapabilities are those that this process can grant.
func OwnCapabilities() ([]string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}

	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			bounding, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err != nil {
				return nil, fmt.Errorf("CapBnd of /proc/self/status: %w", err)
			}

			return Grantable(bounding), nil
		}
	}

	return nil, errors.New("/proc/self/status has no line CapBnd")
}
