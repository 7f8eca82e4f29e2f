// Package disk finds the system disk by its META partition and keeps the node's two file systems on it: STATE for the
// machine config and the node's identity, EPHEMERAL (mounted on /var) for everything else.
package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
	"lab/images/node/internal/gpt"
	"lab/images/node/internal/process"
)

// Labels of the partitions, as in Talos.
const (
	Meta      = "META"
	State     = "STATE"
	Ephemeral = "EPHEMERAL"
)

const (
	metaSize  = 1 << 20
	stateSize = 64 << 20
)

// ErrNotInstalled means that no disk has a META partition of exactly one MiB.
var ErrNotInstalled = errors.New("not installed: no disk has a GPT partition META of exactly 1048576 bytes; prepare the disk with one before the boot")

// Disk is the system disk.
type Disk struct {
	Device string // such as /dev/vda
	table  *gpt.Table
	size   uint64
}

// Find looks at all disks for the META partition.
func Find() (*Disk, error) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil, err
	}

	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") {
			continue
		}

		d, err := open("/dev/" + name)
		if errors.Is(err, gpt.ErrNone) {
			continue
		}

		if err != nil {
			console.Printf("disk %s passed over: %v", name, err)

			continue
		}

		if meta, ok := d.table.Find(Meta); ok && meta.Size() == metaSize {
			return d, nil
		}
	}

	return nil, ErrNotInstalled
}

func open(device string) (*Disk, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	end, err := f.Seek(0, 2)
	if err != nil {
		return nil, err
	}

	table, err := gpt.Read(f, uint64(end))
	if err != nil {
		return nil, err
	}

	return &Disk{Device: device, table: table, size: uint64(end)}, nil
}

// Has tells whether the disk has a partition.
func (d *Disk) Has(label string) bool {
	_, ok := d.Find(label)

	return ok
}

// Find returns the entry of a partition in the table.
func (d *Disk) Find(label string) (gpt.Partition, bool) { return d.table.Find(label) }

// Partition is the device of a partition.
func (d *Disk) Partition(label string) string {
	p, _ := d.Find(label)

	name := d.Device
	if last := name[len(name)-1]; last >= '0' && last <= '9' {
		name += "p"
	}

	return name + strconv.Itoa(p.Number)
}

// Provision adds the partitions STATE and EPHEMERAL where they are missing.
func (d *Disk) Provision(ctx context.Context) error {
	if d.Has(State) && d.Has(Ephemeral) {
		return nil
	}

	for _, want := range []struct {
		label string
		size  uint64
	}{{State, stateSize}, {Ephemeral, 0}} {
		if d.Has(want.label) {
			continue
		}

		var id gpt.GUID

		_, _ = rand.Read(id[:]) // never fails
		id[7] = id[7]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80

		if _, err := d.table.Append(want.label, id, want.size); err != nil {
			return fmt.Errorf("disk %s: %w", d.Device, err)
		}
	}

	f, err := os.OpenFile(d.Device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()

	if err := d.table.Write(f); err != nil {
		return err
	}

	if err := f.Sync(); err != nil {
		return err
	}

	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil {
		return fmt.Errorf("make the kernel read the partitions of %s again: %w", d.Device, err)
	}

	// devtmpfs makes the nodes at once, but from a kernel thread.
	for _, label := range []string{State, Ephemeral} {
		if err := waitForNode(ctx, d.Partition(label)); err != nil {
			return err
		}
	}

	return nil
}

func waitForNode(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("device %s did not appear within 10 s of partitioning", path)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// mkfsOptions keep the first boot short: tables and journal are zero already on a fresh sparse disk (lazy_*_init),
// and the journal is kept because a node must survive a power cut.
var mkfsOptions = map[string][]string{
	State:     {"-J", "size=4", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"},
	Ephemeral: {"-J", "size=16", "-m", "0", "-i", "65536", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"},
}

// Mount mounts a partition and makes its file system first when there is none.
func (d *Disk) Mount(ctx context.Context, reaper *process.Reaper, label, target string) error {
	device := d.Partition(label)

	made, err := isExt4(device)
	if err != nil {
		return err
	}

	if !made {
		args := append([]string{"-q", "-F", "-L", label}, mkfsOptions[label]...)
		if _, err := reaper.Run(ctx, "/usr/sbin/mkfs.ext4", append(args, device)...); err != nil {
			return fmt.Errorf("make the file system %s: %w", label, err)
		}
	}

	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}

	// noinit_itable: the kernel's background zeroing would take CPU time from the start of the cluster.
	mount := func() error { return unix.Mount(device, target, "ext4", unix.MS_NOATIME, "noinit_itable") }

	err = mount()
	if err == nil {
		return nil
	}

	console.Printf("mounting %s failed (%v), checking the file system", label, err)

	if out, checkErr := reaper.Run(ctx, "/usr/sbin/e2fsck", "-y", device); checkErr != nil {
		console.Printf("e2fsck %s: %v %s", device, checkErr, out) // exit status 1 means "repaired"
	}

	if err := mount(); err != nil {
		return fmt.Errorf("mount %s (%s) on %s: %w", label, device, target, err)
	}

	return nil
}

func isExt4(device string) (bool, error) {
	f, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer f.Close()

	magic := make([]byte, 2)
	if _, err := f.ReadAt(magic, 0x438); err != nil { // s_magic, Documentation/filesystems/ext4/super.rst
		return false, fmt.Errorf("read the superblock of %s: %w", device, err)
	}

	return magic[0] == 0x53 && magic[1] == 0xEF, nil
}

// Wipe makes the next boot see empty partitions: it zeroes the start of STATE and EPHEMERAL. Unmount them first.
func (d *Disk) Wipe(labels ...string) error {
	for _, label := range labels {
		if !d.Has(label) {
			continue
		}

		f, err := os.OpenFile(d.Partition(label), os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}

		_, err = f.WriteAt(make([]byte, 1<<20), 0)
		err = errors.Join(err, f.Sync(), f.Close())

		if err != nil {
			return fmt.Errorf("wipe %s: %w", label, err)
		}
	}

	return nil
}

// WriteFile replaces a file so that a power cut leaves either the old or the new content.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)

	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())

	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}

	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}

	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()

	return d.Sync()
}
