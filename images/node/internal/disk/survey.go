package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"lab/images/node/internal/gpt"
)

// Device is a disk or a partition, as the kernel and its own content describe it.
type Device struct {
	Name   string // such as vda1
	Parent string // the disk of a partition
	Size   uint64
	Offset uint64 // in the disk
	// Content is gpt, ext4 or squashfs; empty if it is none of them.
	Content     string
	Label, UUID string // of the file system
	Partition   gpt.Partition

	// Only disks have these.
	Readonly, Rotational    bool
	SectorSize, IOSize      uint
	Model, Serial, Modalias string
	BusPath, Transport      string
}

// Survey looks at all block devices. RAM disks and devices without content are left out, as in Talos.
func Survey() ([]Device, error) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil, err
	}

	var out []Device

	for _, e := range entries {
		name := e.Name()

		size := attribute(name, "size") * gpt.SectorSize
		if strings.HasPrefix(name, "ram") || size == 0 {
			continue
		}

		disk := Device{
			Name: name, Size: size,
			Readonly: attribute(name, "ro") == 1, Rotational: attribute(name, "queue/rotational") == 1,
			SectorSize: uint(attribute(name, "queue/logical_block_size")), IOSize: uint(attribute(name, "queue/minimum_io_size")),
			Model: text(name, "device/model"), Serial: text(name, "serial"), Modalias: text(name, "device/modalias"),
		}

		if path, err := filepath.EvalSymlinks("/sys/block/" + name); err == nil {
			bus, _, _ := strings.Cut(strings.TrimPrefix(path, "/sys/devices"), "/block/")
			disk.BusPath = bus

			if strings.Contains(bus, "/virtio") {
				disk.Transport = "virtio"
			}
		}

		table := disk.probe()
		out = append(out, disk)

		if table != nil {
			out = append(out, partitions(disk, table)...)
		}
	}

	return out, nil
}

func partitions(disk Device, table *gpt.Table) []Device {
	var out []Device

	for _, p := range slices.SortedFunc(slices.Values(table.Partitions), func(a, b gpt.Partition) int { return a.Number - b.Number }) {
		name := disk.Name
		if last := name[len(name)-1]; last >= '0' && last <= '9' {
			name += "p"
		}

		partition := Device{
			Name: name + strconv.Itoa(p.Number), Parent: disk.Name, Size: p.Size(), Offset: p.First * gpt.SectorSize,
			SectorSize: disk.SectorSize, IOSize: disk.IOSize, Partition: p,
		}
		partition.probe()
		out = append(out, partition)
	}

	return out
}

// probe finds out what is on a device. A device that cannot be read has unknown content.
func (d *Device) probe() *gpt.Table {
	f, err := os.Open("/dev/" + d.Name)
	if err != nil {
		return nil
	}
	defer f.Close()

	if d.Parent == "" {
		if table, err := gpt.Read(f, d.Size); err == nil {
			d.Content, d.UUID = "gpt", table.DiskID.String()

			return table
		}
	}

	d.Content, d.Label, d.UUID = fileSystem(f)

	return nil
}

// fileSystem recognizes ext4 (Documentation/filesystems/ext4/super.rst) and squashfs by their superblocks.
func fileSystem(r io.ReaderAt) (kind, label, uuid string) {
	start := make([]byte, 0x500)
	if n, err := r.ReadAt(start, 0); n < len(start) && !errors.Is(err, io.EOF) {
		return "", "", ""
	}

	switch id := start[0x468:0x478]; {
	case bytes.HasPrefix(start, []byte("hsqs")):
		return "squashfs", "", ""
	case bytes.Equal(start[0x438:0x43a], []byte{0x53, 0xEF}):
		return "ext4", string(bytes.TrimRight(start[0x478:0x488], "\x00")),
			fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	default:
		return "", "", ""
	}
}

func attribute(disk, file string) uint64 {
	n, _ := strconv.ParseUint(text(disk, file), 10, 64)

	return n
}

func text(disk, file string) string {
	content, _ := os.ReadFile("/sys/block/" + disk + "/" + file)

	return strings.TrimSpace(string(content))
}
