// Command init is /init of the initramfs: it loads the early kernel modules, stacks the root file system and the
// system extensions, and hands over to /usr/sbin/init of the result.
//
// It stays small on purpose: it runs from memory before anything else, and what fails here can only be told on the
// console.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
	"lab/images/node/internal/layers"
)

const newRoot = "/root"

func main() {
	if err := run(); err != nil {
		console.Printf("init failed: %v", err)
		// Leaving PID 1 is a kernel panic: the kernel argument panic= decides between reboot and standstill.
		os.Exit(1)
	}
}

func run() error {
	if err := mountPseudo(); err != nil {
		return err
	}

	_ = console.Open() // the fallback is standard error, which is the console as well

	if err := loadModules("/modules.load"); err != nil {
		return err
	}

	console.Milestone("kernel-modules")

	if err := stackRoot(); err != nil {
		return err
	}

	console.Milestone("root-mounted")

	return switchRoot("/usr/sbin/init")
}

func mountPseudo() error {
	for _, m := range []struct{ source, target, fs, data string }{
		{"proc", "/proc", "proc", ""},
		{"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", "mode=0755"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}

		err := unix.Mount(m.source, m.target, m.fs, unix.MS_NOSUID, m.data)
		if err != nil && err != unix.EBUSY { // the kernel may have mounted devtmpfs itself
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}

	return nil
}

// loadModules loads the listed files in order; the list is made at build time with dependencies first.
func loadModules(list string) error {
	b, err := os.ReadFile(list)
	if os.IsNotExist(err) {
		return nil // a kernel with everything built in
	}

	if err != nil {
		return err
	}

	for path := range strings.FieldsSeq(string(b)) {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("kernel module listed in %s: %w", list, err)
		}

		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()

		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load kernel module %s: %w", path, err)
		}
	}

	return nil
}

func stackRoot() error {
	ext, err := layers.Read("/" + layers.ExtensionsFile)
	if err != nil {
		return err
	}

	// A tmpfs holds the mount points: mounts inside it survive the move into the new root.
	if err := mountOn("tmpfs", "/layers", "tmpfs", 0, "size=1m,mode=0755"); err != nil {
		return err
	}

	dir, err := mountLayer("/"+layers.RootImage, "/layers/root")
	if err != nil {
		return err
	}

	dirs := []string{dir}

	for i, layer := range ext.Layers {
		console.Printf("enabling system extension %s %s", layer.Metadata.Name, layer.Metadata.Version)

		dir, err := mountLayer("/"+layer.Image, "/layers/"+strconv.Itoa(i))
		if err != nil {
			return err
		}

		dirs = append(dirs, dir)
	}

	if len(dirs) == 1 {
		// Without extensions there is nothing to stack: a bind mount saves every path lookup one overlay step.
		if err := mountOn(dirs[0], newRoot, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	} else if err := mountOn("overlay", newRoot, "overlay", unix.MS_RDONLY, layers.OverlayOption(dirs)); err != nil {
		return err
	}

	// /run is the only writable place yet; the agent finds the list of extensions there.
	if err := mountOn("tmpfs", newRoot+"/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}

	if b, err := os.ReadFile("/" + layers.ExtensionsFile); err == nil {
		return os.WriteFile(newRoot+"/run/"+layers.ExtensionsFile, b, 0o644)
	}

	return nil
}

func mountOn(source, target, fs string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("mount point of %s: %w", fs, err)
	}

	if err := unix.Mount(source, target, fs, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}

	return nil
}

// mountLayer attaches a squashfs file to a free loop device and mounts it read-only.
func mountLayer(file, target string) (string, error) {
	backing, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("layer of the root file system: %w", err)
	}
	defer backing.Close()

	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("loop devices (is the module loop loaded?): %w", err)
	}
	defer control.Close()

	index, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", fmt.Errorf("get a free loop device: %w", err)
	}

	device := "/dev/loop" + strconv.Itoa(index)

	loop, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer loop.Close()

	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	copy(config.Info.File_name[:], filepath.Base(file))

	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		return "", fmt.Errorf("attach %s to %s: %w", file, device, err)
	}

	return target, mountOn(device, target, "squashfs", unix.MS_RDONLY, "")
}

// switchRoot makes newRoot the root directory and replaces this process by the program there.
func switchRoot(program string) error {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s to the new root: %w", dir, err)
		}
	}

	if err := unix.Chdir(newRoot); err != nil {
		return err
	}

	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the new root to /: %w", err)
	}

	if err := unix.Chroot("."); err != nil {
		return err
	}

	if err := unix.Chdir("/"); err != nil {
		return err
	}

	err := unix.Exec(program, []string{program}, []string{"PATH=/usr/sbin:/usr/bin", "HOME=/"})

	return fmt.Errorf("start %s: %w", program, err)
}
