package gpt

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const diskSize = 6 << 30

func newDisk(t *testing.T) *os.File {
	t.Helper()

	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { f.Close() })

	if err := f.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}

	return f
}

func TestWrittenTableReadsBack(t *testing.T) {
	disk := newDisk(t)

	if _, err := Read(disk, diskSize); !errors.Is(err, ErrNone) {
		t.Fatalf("an empty disk gives %v", err)
	}

	table := New(GUID{1}, diskSize)
	for i, want := range []struct {
		label string
		size  uint64
	}{{"META", 1 << 20}, {"STATE", 64 << 20}, {"EPHEMERAL", 0}} {
		if _, err := table.Append(want.label, GUID{byte(i + 2)}, want.size); err != nil {
			t.Fatal(err)
		}
	}

	if err := table.Write(disk); err != nil {
		t.Fatal(err)
	}

	got, err := Read(disk, diskSize)
	if err != nil {
		t.Fatal(err)
	}

	meta, _ := got.Find("META")
	state, _ := got.Find("STATE")
	ephemeral, ok := got.Find("EPHEMERAL")

	if !ok || meta.Size() != 1<<20 || state.Number != 2 || state.Size() != 64<<20 || ephemeral.First%alignment != 0 || ephemeral.Last != got.lastUsable() {
		t.Fatalf("%+v", got)
	}

	if _, err := got.Append("MORE", GUID{9}, 0); err == nil {
		t.Fatal("a partition was added to a full disk")
	}

	if sgdisk, err := exec.LookPath("sgdisk"); err == nil { // an independent reader, where there is one
		out, err := exec.Command(sgdisk, "--verify", disk.Name()).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No problems found") {
			t.Fatalf("sgdisk: %v\n%s", err, out)
		}
	}
}

func TestDamagedTableIsRefused(t *testing.T) {
	disk := newDisk(t)
	if err := New(GUID{1}, diskSize).Write(disk); err != nil {
		t.Fatal(err)
	}

	if _, err := disk.WriteAt([]byte{1}, 2*SectorSize); err != nil {
		t.Fatal(err)
	}

	if _, err := Read(disk, diskSize); err == nil || !strings.Contains(err.Error(), "wrong checksum") {
		t.Fatalf("got %v", err)
	}
}

func TestGUIDsAreWrittenInTheirUsualForm(t *testing.T) {
	if got := LinuxData.String(); got != "0fc63daf-8483-4772-8e79-3d69d8477de4" {
		t.Fatalf("the type of Linux partitions is %s", got)
	}
}
