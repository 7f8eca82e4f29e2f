// Package imagecache serves container images from a read-only disk that the machine was given, as Talos does with an
// image cache on its boot medium: a vfat or ISO file system whose label begins with TALOS_ and whose directory
// imagecache/ holds blob/sha256-HEX and manifests/REGISTRY/REPOSITORY/{reference/TAG,digest/sha256-HEX}.
//
// Source of the layout and of the address: Talos' registryd (internal/app/machined/pkg/system/services/registry) and
// its image cache controller (internal/app/machined/pkg/controllers/cri/image_cache_config.go).
package imagecache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"golang.org/x/sys/unix"

	"lab/images/node/internal/kernel"
	"lab/images/node/internal/process"
)

// Root is the directory of the cache once its disk is mounted.
const Root = constants.ImageCacheISOMountPoint + "/imagecache"

// Endpoint is where containerd asks for images first.
const Endpoint = "http://" + constants.RegistrydListenAddress

// labelPrefix marks the file systems in which Talos looks for images.
const labelPrefix = "TALOS_"

// ErrNone means that no disk holds images.
var ErrNone = errors.New("no disk with a vfat file system whose label begins with " + labelPrefix)

// Mount finds the disk among all block devices and mounts it read-only. With ErrNone there is none.
func Mount(ctx context.Context, reaper *process.Reaper) (device string, err error) {
	device, err = find("/sys/block", "/dev")
	if err != nil {
		return "", err
	}

	// The file system asks for its code pages by name; there is no program to load them on demand.
	for _, module := range []string{"nls_cp437", "nls_ascii", "vfat"} {
		if err := kernel.LoadModule(ctx, reaper, module, nil); err != nil {
			return "", fmt.Errorf("image cache on %s: kernel module %s: %w", device, module, err)
		}
	}

	if err := os.MkdirAll(constants.ImageCacheISOMountPoint, 0o700); err != nil {
		return "", err
	}

	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC

	err = unix.Mount(device, constants.ImageCacheISOMountPoint, "vfat", flags, "codepage=437,iocharset=ascii")
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return "", fmt.Errorf("mount the image cache %s: %w", device, err)
	}

	if _, err := os.Stat(Root); err != nil {
		return "", fmt.Errorf("image cache on %s: %w", device, err)
	}

	return device, nil
}

func find(sys, dev string) (string, error) {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return "", err
	}

	for _, e := range entries {
		label, err := vfatLabel(dev + "/" + e.Name())
		if err == nil && strings.HasPrefix(label, labelPrefix) {
			return dev + "/" + e.Name(), nil
		}
	}

	return "", ErrNone
}

// vfatLabel reads the label of a FAT file system from its boot sector (Microsoft's FAT specification, sections 3.2 and
// 3.3: BS_VolLab and BS_FilSysType of FAT12/16 and of FAT32).
func vfatLabel(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()

	sector := make([]byte, 512)
	if _, err := io.ReadFull(f, sector); err != nil {
		return "", err
	}

	for _, at := range []struct{ label, kind int }{{71, 82}, {43, 54}} {
		if bytes.HasPrefix(sector[at.kind:], []byte("FAT")) && sector[510] == 0x55 && sector[511] == 0xaa {
			return strings.TrimRight(string(sector[at.label:at.label+11]), " "), nil
		}
	}

	return "", errors.New("no FAT file system")
}
