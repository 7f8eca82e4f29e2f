package api

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
)

func tree(t *testing.T) string {
	root := t.TempDir()

	for name, size := range map[string]int{"a/b/large": 5000, "a/small": 10, "c": 300} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o644)); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Symlink("c", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}

	return root
}

func TestADirectoryHasTheSizeOfItsContents(t *testing.T) {
	root := tree(t)

	sizes := func(request *machineapi.DiskUsageRequest) map[string]int64 {
		out := map[string]int64{}

		err := diskUsage(root, request, func(info *machineapi.DiskUsageInfo) error {
			out[info.GetRelativeName()] = info.GetSize()

			return nil
		})
		if err != nil {
			t.Fatal(err)
		}

		return out
	}

	all := sizes(&machineapi.DiskUsageRequest{All: true})
	empty := all["a/b"] - 5000 // of a directory

	if all["a"] != 5010+2*empty || all["."] != all["a"]+300+1+empty || all["a/b/large"] != 5000 {
		t.Fatalf("got %v", all)
	}

	if top := sizes(&machineapi.DiskUsageRequest{RecursionDepth: 1}); len(top) != 1 || top["."] != all["."] {
		t.Fatalf("with depth 1: got %v", top)
	}

	if large := sizes(&machineapi.DiskUsageRequest{All: true, Threshold: 5000}); len(large) != 4 || large["c"] != 0 {
		t.Fatalf("with a threshold: got %v", large)
	}
}

func TestAnArchiveHasEveryFileWithItsContent(t *testing.T) {
	var packed bytes.Buffer
	if err := archive(tree(t), &packed); err != nil {
		t.Fatal(err)
	}

	var names []string

	unpacked := tar.NewReader(&packed)

	for {
		header, err := unpacked.Next()
		if errors.Is(err, io.EOF) {
			break
		}

		content, readErr := io.ReadAll(unpacked)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}

		names = append(names, header.Name)

		if header.Name == "a/b/large" && len(content) != 5000 || header.Name == "link" && header.Linkname != "c" {
			t.Errorf("%s: %d bytes, link to %q", header.Name, len(content), header.Linkname)
		}
	}

	if want := []string{"a/", "a/b/", "a/b/large", "a/small", "c", "link"}; !slices.Equal(names, want) {
		t.Fatalf("got %q", names)
	}

	if err := archive("/does/not/exist", io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a missing path: got %v", err)
	}
}

func TestFilesOfTheKernelAreArchivedWithTheirContent(t *testing.T) {
	var packed bytes.Buffer
	if err := archive("/proc/sys/kernel/ostype", &packed); err != nil { // its size is told as 0
		t.Fatal(err)
	}

	unpacked := tar.NewReader(&packed)
	if header, err := unpacked.Next(); err != nil || header.Name != "ostype" || header.Size != 6 {
		t.Fatalf("got %v, %v", header, err)
	}
}

func TestDiskStatsAddUp(t *testing.T) {
	stats := diskStats("253 0 vda 10 1 100 5 20 2 200 6 0 7 8 1 0 3 4 0 0\n253 16 vdb 1 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n7 0 loop0 short\n")
	if len(stats.GetDevices()) != 2 || stats.GetDevices()[0].GetWriteSectors() != 200 || stats.GetTotal().GetReadCompleted() != 11 {
		t.Fatalf("got %v", stats)
	}
}
