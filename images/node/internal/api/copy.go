package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Copy streams a file or a directory as tar.gz. It is for administrators. As in Talos, an error after the first bytes is
// told in the metadata of the last message.
func (m *Machine) Copy(request *machineapi.CopyRequest, stream machineapi.MachineService_CopyServer) error {
	root := filepath.Clean(request.GetRootPath())
	if !filepath.IsAbs(root) {
		return status.Errorf(codes.InvalidArgument, "path is not absolute %v", root)
	}

	zipped := gzip.NewWriter(sender{stream.Send})
	packed := errors.Join(archive(root, zipped), zipped.Close())

	if packed == nil {
		return nil
	}

	return stream.Send(&common.Data{Metadata: &common.Metadata{Error: packed.Error()}})
}

// sender sends what is written to it as messages.
type sender struct{ send func(*common.Data) error }

func (s sender) Write(p []byte) (int, error) {
	for at := 0; at < len(p); at += chunk {
		if err := s.send(&common.Data{Bytes: append([]byte(nil), p[at:min(at+chunk, len(p))]...)}); err != nil {
			return at, err
		}
	}

	return len(p), nil
}

// archive writes a file, or everything in a directory, with names that are relative to it. A file that cannot be read is
// left out; its error is returned in the end.
func archive(root string, out io.Writer) error {
	info, err := os.Stat(root)
	if err != nil {
		return err
	}

	tarball := tar.NewWriter(out)

	if !info.IsDir() {
		return errors.Join(addFile(tarball, root, filepath.Base(root), info), tarball.Close())
	}

	var problems []error

	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		relative := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")

		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}

		if err == nil && relative != "" {
			err = addFile(tarball, path, relative, info)
		}

		var broken brokenArchive
		if errors.As(err, &broken) {
			return err
		}

		if err != nil {
			problems = append(problems, err)
		}

		return nil
	})

	return errors.Join(err, errors.Join(problems...), tarball.Close())
}

// brokenArchive ends an archive: an entry that was begun is not complete, or nobody reads it.
type brokenArchive struct{ error }

func (b brokenArchive) Unwrap() error { return b.error }

// small is the size up to which a file is read before its entry is written: files of /proc and /sys tell the size 0 or
// 4096, whatever they contain. smallContent bounds their content.
const (
	small        = 4096
	smallContent = 1 << 20
)

func addFile(tarball *tar.Writer, path, name string, info fs.FileInfo) error {
	var (
		target  string
		content io.Reader
	)

	switch mode := info.Mode(); {
	case mode.IsDir():
	case mode&fs.ModeSymlink != 0:
		link, err := os.Readlink(path)
		if err != nil {
			return err
		}

		target = link
	case mode.IsRegular():
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()

		content = f
	default: // sockets and devices have no content
		return nil
	}

	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}

	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}

	if content != nil && header.Size <= small {
		read, err := io.ReadAll(io.LimitReader(content, smallContent))
		if err != nil {
			return err
		}

		content, header.Size = bytes.NewReader(read), int64(len(read))
	}

	if err := tarball.WriteHeader(header); err != nil {
		return brokenArchive{err}
	}

	if content == nil {
		return nil
	}

	// A log may grow meanwhile: what its entry promises is copied.
	if _, err := io.CopyN(tarball, content, header.Size); err != nil {
		return brokenArchive{fmt.Errorf("%s became shorter: %w", path, err)}
	}

	return nil
}
