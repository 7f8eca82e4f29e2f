package api

import (
	"io/fs"
	"path/filepath"
	"strings"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
)

// DiskUsage streams the sizes below some paths, as du does: a directory after its contents, with the sum of their sizes.
func (m *Machine) DiskUsage(request *machineapi.DiskUsageRequest, stream machineapi.MachineService_DiskUsageServer) error {
	for _, path := range request.GetPaths() {
		if err := diskUsage(filepath.Clean("/"+path), request, stream.Send); err != nil {
			return err
		}
	}

	return nil
}

func diskUsage(root string, request *machineapi.DiskUsageRequest, send func(*machineapi.DiskUsageInfo) error) error {
	var open []*machineapi.DiskUsageInfo // directories on the way to the current entry

	name := func(path string) string {
		if relative, err := filepath.Rel(root, path); err == nil {
			return relative
		}

		return path
	}

	// tell adds an entry to its directory, and sends it unless the request leaves it out.
	tell := func(info *machineapi.DiskUsageInfo, directory bool) error {
		if len(open) > 0 {
			open[len(open)-1].Size += info.GetSize()
		}

		limit, threshold := int(request.GetRecursionDepth()), request.GetThreshold()
		if limit > 0 && len(open) >= limit || !directory && !request.GetAll() ||
			threshold > 0 && info.GetSize() < threshold || threshold < 0 && info.GetSize() > -threshold {
			return nil
		}

		return send(info)
	}

	// leave ends the directories that do not contain path.
	leave := func(path string) error {
		for len(open) > 0 {
			last := open[len(open)-1]
			if path != "" && (last.GetName() == "/" || strings.HasPrefix(path, last.GetName()+"/")) {
				return nil
			}

			open = open[:len(open)-1]

			if err := tell(last, true); err != nil {
				return err
			}
		}

		return nil
	}

	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}

		if err != nil {
			return send(&machineapi.DiskUsageInfo{Name: path, RelativeName: name(path), Error: err.Error()})
		}

		if err := leave(path); err != nil {
			return err
		}

		size := info.Size()
		if path == "/proc/kcore" { // its size is that of the address space
			size = 0
		}

		usage := &machineapi.DiskUsageInfo{Name: path, RelativeName: name(path), Size: size}
		if entry.IsDir() {
			open = append(open, usage)

			return nil
		}

		return tell(usage, false)
	})
	if err != nil {
		return err
	}

	return leave("")
}
