package api

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// chunk is how much of a file one message carries.
const chunk = 32 << 10

// Read streams the content of a regular file. It is for administrators: the node's secrets are files.
func (m *Machine) Read(request *machineapi.ReadRequest, stream machineapi.MachineService_ReadServer) error {
	path := request.GetPath()
	if !filepath.IsAbs(path) {
		return status.Errorf(codes.InvalidArgument, "path %q is not absolute", path)
	}

	info, err := os.Stat(path)
	if err != nil {
		return fileStatus(err)
	}

	if !info.Mode().IsRegular() { // a read of a pipe or a device might never end
		return status.Errorf(codes.InvalidArgument, "path must be a regular file, %s is %s", path, info.Mode().Type())
	}

	f, err := os.Open(path)
	if err != nil {
		return fileStatus(err)
	}
	defer f.Close()

	buffer := make([]byte, chunk)

	for {
		n, err := f.Read(buffer)
		if n > 0 {
			if err := stream.Send(&common.Data{Bytes: slices.Clone(buffer[:n])}); err != nil {
				return err
			}
		}

		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return fileStatus(err)
		}
	}
}

func fileStatus(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, fs.ErrPermission):
		return status.Error(codes.PermissionDenied, err.Error())
	default:
		return status.Error(codes.Internal, err.Error())
	}
}

// List streams a file or a directory with what is in it; with recursion, down to the asked depth. A file that cannot
// be looked at is an entry with an error.
func (m *Machine) List(request *machineapi.ListRequest, stream machineapi.MachineService_ListServer) error {
	root := filepath.Clean("/" + request.GetRoot())

	depth := 1
	if request.GetRecurse() {
		depth = int(request.GetRecursionDepth()) // 0 is without limit
	}

	if _, err := os.Lstat(root); err != nil {
		return fileStatus(err)
	}

	// Talos follows a link that is named itself, not those below it.
	if target, err := filepath.EvalSymlinks(root); err == nil {
		root = target
	}

	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		relative, relErr := filepath.Rel(root, path)
		if relErr != nil {
			return relErr
		}

		info := fileInfo(path, relative, entry, err)

		if wanted(info, request.GetTypes()) {
			if err := stream.Send(info); err != nil {
				return err
			}
		}

		if info.GetIsDir() && (err != nil || depth > 0 && relative != "." && strings.Count(relative, "/")+1 >= depth) {
			return fs.SkipDir
		}

		return nil
	})
}

func fileInfo(path, relative string, entry fs.DirEntry, problem error) *machineapi.FileInfo {
	out := &machineapi.FileInfo{Name: path, RelativeName: relative, IsDir: entry != nil && entry.IsDir()}

	var info fs.FileInfo

	if problem == nil {
		info, problem = entry.Info()
	}

	if problem != nil {
		out.Error = problem.Error()

		return out
	}

	out.Size, out.Mode, out.Modified = info.Size(), uint32(info.Mode()), info.ModTime().Unix()

	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		out.Uid, out.Gid = s.Uid, s.Gid
	}

	if info.Mode()&fs.ModeSymlink != 0 {
		link, err := os.Readlink(path)
		if err != nil {
			out.Error = err.Error()
		}

		out.Link = link
	}

	return out
}

func wanted(info *machineapi.FileInfo, types []machineapi.ListRequest_Type) bool {
	if len(types) == 0 {
		return true
	}

	switch mode := fs.FileMode(info.GetMode()); {
	case mode.IsDir():
		return slices.Contains(types, machineapi.ListRequest_DIRECTORY)
	case mode&fs.ModeSymlink != 0:
		return slices.Contains(types, machineapi.ListRequest_SYMLINK)
	case mode.IsRegular():
		return slices.Contains(types, machineapi.ListRequest_REGULAR)
	default:
		return false
	}
}
