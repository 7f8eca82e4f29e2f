package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// magic is what a WebAssembly binary begins with, a module as well as a component (core specification, 5.5.16).
const magic = "\x00asm"

// maxLinks bounds how many symbolic links a path may take, as Linux does (path_resolution(7)).
const maxLinks = 40

// process is the part of config.json's process that decides which file is run.
type process struct {
	args []string
	cwd  string
	// path holds the folders of the container's own PATH.
	path []string
}

// findModule names the WebAssembly module that a container's process is, as a path inside the container; empty when it is
// none. Two modules where one is meant are an error.
func findModule(root string, process process) (string, error) {
	if len(process.args) == 0 || process.args[0] == "" || process.args[0] == "/" {
		return onlyModule(root)
	}

	for _, candidate := range candidates(process) {
		found, err := kindOf(root, candidate)
		if err != nil {
			return "", fmt.Errorf("looking whether %s is a WebAssembly module: %w", candidate, err)
		}

		switch found {
		case module:
			return candidate, nil
		case other:
			return "", nil // the program that runc would run
		case missing:
		}
	}

	return "", nil
}

// isFile tells whether a path inside the container leads to an ordinary file.
func isFile(root, name string) (bool, error) {
	_, err := resolve(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}

	return err == nil, err
}

// candidates are the files that the process may mean, in the order in which runc would look, and last the working
// folder: images of modules often name the bare file.
func candidates(process process) []string {
	name := process.args[0]

	switch {
	case path.IsAbs(name):
		return []string{path.Clean(name)}
	case strings.Contains(name, "/"):
		return []string{path.Join("/", process.cwd, name)}
	}

	found := make([]string, 0, len(process.path)+1)
	for _, folder := range process.path {
		if path.IsAbs(folder) {
			found = append(found, path.Join(folder, name))
		}
	}

	return append(found, path.Join("/", process.cwd, name))
}

// onlyModule finds the module of an image that names no program, only its root.
func onlyModule(root string) (string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return "", fmt.Errorf("looking for a WebAssembly module at the top of the image: %w", err)
	}

	var modules []string

	for _, entry := range entries {
		if path.Ext(entry.Name()) != ".wasm" {
			continue
		}

		name := "/" + entry.Name()

		found, err := kindOf(root, name)
		if err != nil {
			return "", err
		}

		if found == module {
			modules = append(modules, name)
		}
	}

	switch len(modules) {
	case 0:
		return "", nil
	case 1:
		return modules[0], nil
	default:
		return "", fmt.Errorf("the image has %d WebAssembly modules at its top (%s) and its command names none: "+
			"set the command to one of them", len(modules), strings.Join(modules, ", "))
	}
}

// kind is what a path inside the container leads to.
type kind int

const (
	// missing is nothing, or nothing that can be run: runc has the words for that.
	missing kind = iota
	// module is a file that begins as WebAssembly does.
	module
	// other is any other ordinary file.
	other
)

func kindOf(root, name string) (kind, error) {
	resolved, err := resolve(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return missing, nil
	}

	if err != nil {
		return missing, err
	}

	file, err := os.Open(resolved)
	if err != nil {
		return missing, err
	}
	defer file.Close()

	head := make([]byte, len(magic))

	_, err = io.ReadFull(file, head)

	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return other, nil
	case err != nil:
		return missing, err
	case string(head) == magic:
		return module, nil
	default:
		return other, nil
	}
}

// resolve maps a path inside the container to one of the host. Links are followed as the container sees them, so that an
// image cannot point at the host's files. Anything but an ordinary file counts as not existing: opening a FIFO would
// block.
func resolve(root, name string) (string, error) {
	var (
		inside  = "/"
		pending = strings.Split(name, "/")
		links   int
	)

	for len(pending) > 0 {
		part := pending[0]
		pending = pending[1:]

		next := path.Join(inside, part)
		outside := filepath.Join(root, next)

		info, err := os.Lstat(outside)
		if err != nil {
			return "", notFound(err)
		}

		if info.Mode()&fs.ModeSymlink == 0 {
			inside = next

			continue
		}

		if links++; links > maxLinks {
			return "", fs.ErrNotExist
		}

		target, err := os.Readlink(outside)
		if err != nil {
			return "", err
		}

		if path.IsAbs(target) {
			inside = "/"
		}

		pending = append(strings.Split(target, "/"), pending...)
	}

	outside := filepath.Join(root, inside)

	info, err := os.Lstat(outside)
	if err != nil {
		return "", notFound(err)
	}

	if !info.Mode().IsRegular() {
		return "", fs.ErrNotExist
	}

	return outside, nil
}

// notFound takes a path that goes through a file, or is too long, for one that leads nowhere.
func notFound(err error) error {
	if errors.Is(err, errNotDirectory) || errors.Is(err, errNameTooLong) {
		return fs.ErrNotExist
	}

	return err
}
