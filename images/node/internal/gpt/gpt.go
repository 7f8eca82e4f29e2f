// Package gpt reads and writes GUID partition tables (UEFI specification 2.10, section 5.3).
//
// It knows what the node needs: find a partition by its label and append partitions behind the existing ones.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// SectorSize is the only logical block size supported: that of virtio-blk disks without further settings.
const SectorSize = 512

const (
	signature   = "EFI PART"
	headerSize  = 92
	entrySize   = 128
	entryCount  = 128
	tableBytes  = entrySize * entryCount
	tableBlocks = tableBytes / SectorSize
	// alignment of new partitions: 1 MiB, as every partitioning tool does.
	alignment = (1 << 20) / SectorSize
)

// LinuxData is the partition type of Linux file systems.
var LinuxData = GUID{0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47, 0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4}

// GUID is a GUID in its on-disk byte order.
type GUID [16]byte

// String is the usual form: the first three groups are numbers in little-endian order.
func (g GUID) String() string {
	le := binary.LittleEndian

	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[:4]), le.Uint16(g[4:6]), le.Uint16(g[6:8]), g[8:10], g[10:])
}

// Partition is one entry of the table. First and Last are sectors, both part of the partition.
type Partition struct {
	Number      int // 1-based position in the table, the number of the kernel's device
	Type, ID    GUID
	First, Last uint64
	Label       string
	attributes  uint64
}

// Size is the size of the partition in bytes.
func (p Partition) Size() uint64 { return (p.Last - p.First + 1) * SectorSize }

// Table is a partition table.
type Table struct {
	DiskID     GUID
	Partitions []Partition
	sectors    uint64 // of the whole disk
}

// ErrNone means that the disk has no GUID partition table.
var ErrNone = errors.New("no GUID partition table")

// Read reads the primary table of a disk of the given size in bytes.
func Read(r io.ReaderAt, size uint64) (*Table, error) {
	header := make([]byte, SectorSize)
	if _, err := r.ReadAt(header, SectorSize); err != nil {
		return nil, fmt.Errorf("read the partition table header: %w", err)
	}

	if string(header[:8]) != signature {
		return nil, ErrNone
	}

	le := binary.LittleEndian
	length := le.Uint32(header[12:])

	if length < headerSize || length > SectorSize {
		return nil, fmt.Errorf("partition table header has a length of %d bytes", length)
	}

	sum := le.Uint32(header[16:])
	le.PutUint32(header[16:], 0)

	if crc32.ChecksumIEEE(header[:length]) != sum {
		return nil, errors.New("partition table header has a wrong checksum")
	}

	count, each := le.Uint32(header[80:]), le.Uint32(header[84:])
	if count > 1024 || each < entrySize || each > 4096 {
		return nil, fmt.Errorf("partition table has %d entries of %d bytes", count, each)
	}

	entries := make([]byte, count*each)
	if _, err := r.ReadAt(entries, int64(le.Uint64(header[72:])*SectorSize)); err != nil {
		return nil, fmt.Errorf("read the partition entries: %w", err)
	}

	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return nil, errors.New("partition entries have a wrong checksum")
	}

	t := &Table{DiskID: GUID(header[56:72]), sectors: size / SectorSize}

	for i := range int(count) {
		e := entries[i*int(each):][:entrySize]
		if GUID(e[:16]) == (GUID{}) {
			continue
		}

		t.Partitions = append(t.Partitions, Partition{
			Number: i + 1, Type: GUID(e[:16]), ID: GUID(e[16:32]),
			First: le.Uint64(e[32:]), Last: le.Uint64(e[40:]), attributes: le.Uint64(e[48:]), Label: decodeLabel(e[56:128]),
		})
	}

	return t, nil
}

// New makes an empty table for a disk of the given size in bytes.
func New(diskID GUID, size uint64) *Table {
	return &Table{DiskID: diskID, sectors: size / SectorSize}
}

// Find returns the partition with a label.
func (t *Table) Find(label string) (Partition, bool) {
	for _, p := range t.Partitions {
		if p.Label == label {
			return p, true
		}
	}

	return Partition{}, false
}

// Append adds a Linux partition behind the last one; size 0 takes the rest of the disk.
func (t *Table) Append(label string, id GUID, size uint64) (Partition, error) {
	number, first := 1, uint64(alignment)

	for _, p := range t.Partitions {
		number = max(number, p.Number+1)
		first = max(first, (p.Last+alignment)/alignment*alignment)
	}

	usable := t.lastUsable()
	last := usable

	if size > 0 {
		last = first + size/SectorSize - 1
	}

	if number > entryCount || first > usable || last > usable {
		return Partition{}, fmt.Errorf("no room for partition %s of %d bytes: free are sectors %d to %d", label, size, first, usable)
	}

	p := Partition{Number: number, Type: LinuxData, ID: id, First: first, Last: last, Label: label}
	t.Partitions = append(t.Partitions, p)

	return p, nil
}

func (t *Table) lastUsable() uint64 { return t.sectors - 1 - tableBlocks - 1 }

// Write writes the table with its copy at the end of the disk, and a protective MBR.
func (t *Table) Write(w io.WriterAt) error {
	entries := make([]byte, tableBytes)
	le := binary.LittleEndian

	for _, p := range t.Partitions {
		e := entries[(p.Number-1)*entrySize:][:entrySize]
		copy(e[0:], p.Type[:])
		copy(e[16:], p.ID[:])
		le.PutUint64(e[32:], p.First)
		le.PutUint64(e[40:], p.Last)
		le.PutUint64(e[48:], p.attributes)

		for i, unit := range utf16.Encode([]rune(p.Label)) {
			le.PutUint16(e[56+2*i:], unit)
		}
	}

	last := t.sectors - 1

	// The copy first: a power cut leaves at least one of the two valid.
	for _, part := range []struct {
		data []byte
		at   uint64
	}{
		{entries, last - tableBlocks},
		{t.header(last, 1, last-tableBlocks, entries), last},
		{entries, 2},
		{t.header(1, last, 2, entries), 1},
		{t.protectiveMBR(), 0},
	} {
		if _, err := w.WriteAt(part.data, int64(part.at*SectorSize)); err != nil {
			return fmt.Errorf("write the partition table at sector %d: %w", part.at, err)
		}
	}

	return nil
}

func (t *Table) header(here, other, table uint64, entries []byte) []byte {
	h := make([]byte, SectorSize)
	le := binary.LittleEndian

	copy(h, signature)
	le.PutUint32(h[8:], 0x00010000)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], here)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], 2+tableBlocks)
	le.PutUint64(h[48:], t.lastUsable())
	copy(h[56:], t.DiskID[:])
	le.PutUint64(h[72:], table)
	le.PutUint32(h[80:], entryCount)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))

	return h
}

func (t *Table) protectiveMBR() []byte {
	b := make([]byte, SectorSize)
	b[446+4] = 0xEE
	binary.LittleEndian.PutUint32(b[446+8:], 1)
	binary.LittleEndian.PutUint32(b[446+12:], uint32(min(t.sectors-1, 0xFFFFFFFF)))
	b[510], b[511] = 0x55, 0xAA

	return b
}

func decodeLabel(b []byte) string {
	units := make([]uint16, 0, len(b)/2)

	for len(b) >= 2 {
		unit := binary.LittleEndian.Uint16(b)
		if unit == 0 {
			break
		}

		units = append(units, unit)
		b = b[2:]
	}

	return string(bytes.TrimSpace([]byte(string(utf16.Decode(units)))))
}
