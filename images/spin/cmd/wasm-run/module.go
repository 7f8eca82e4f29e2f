package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// start is the function that a WASI command exports.
const start = "_start"

// program is a module and all that it may see.
type program struct {
	// args begins with the module's file.
	args        []string
	environment []string
	// root is the folder that the module sees as /, empty for none.
	root string
	// listen is the address of the pre-opened listening socket, empty for none.
	listen string
}

// run runs the program to its end and returns its exit status; an error says why it could not, or what it died of.
func run(ctx context.Context, program program) (int, error) {
	content, err := read(program.args[0])
	if err != nil {
		return statusOf(err), err
	}

	ctx, err = withListener(ctx, program.listen)
	if err != nil {
		return statusOf(err), err
	}

	engine := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer engine.Close(ctx)

	if err := instantiateWASI(ctx, engine); err != nil {
		return statusOf(err), err
	}

	module, err := compile(ctx, engine, program.args[0], content)
	if err != nil {
		return statusOf(err), err
	}

	_, err = engine.InstantiateModule(ctx, module, configure(program))

	var (
		exit   *sys.ExitError
		listen *net.OpError
	)

	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return int(exit.ExitCode()), nil
	case errors.As(err, &listen):
		return statusCannotRun, fmt.Errorf("opening the socket of %s=%s: %w", listenVariable, program.listen, listen)
	default:
		return statusTrapped, fmt.Errorf("running %s: %w", program.args[0], err)
	}
}

func read(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, failure{status: statusNoSuchFile, error: fmt.Errorf("there is no module %s", file)}
	}

	if err != nil {
		return nil, cannotRun("reading the module: %w", err)
	}

	return content, checkHead(file, content)
}

// checkHead reads the first eight bytes (core specification, 5.5.16): of a module "\0asm" and version 1, of a component
// "\0asm", a version and layer 1.
func checkHead(file string, content []byte) error {
	const head = 8

	switch {
	case len(content) < head || string(content[:4]) != "\x00asm":
		return cannotRun("%s is not a WebAssembly module: it begins with %q", file, content[:min(head, len(content))])
	case binary.LittleEndian.Uint16(content[6:]) == 1:
		return cannotRun("%s is a WebAssembly component; only core modules with WASI preview 1 can be run: "+
			"build it for the target wasm32-wasip1", file)
	case binary.LittleEndian.Uint32(content[4:]) != 1:
		return cannotRun("%s has WebAssembly version %d, known is 1", file, binary.LittleEndian.Uint32(content[4:]))
	default:
		return nil
	}
}

// instantiateWASI makes machine code of WASI, for all modules of a runtime.
func instantiateWASI(ctx context.Context, engine wazero.Runtime) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, engine); err != nil {
		return cannotRun("setting up WASI: %w", err)
	}

	return nil
}

// compile makes machine code of the module, and checks that nothing is missing before anything runs.
func compile(ctx context.Context, engine wazero.Runtime, file string, content []byte) (wazero.CompiledModule, error) {
	module, err := engine.CompileModule(ctx, content)
	if err != nil {
		return nil, cannotRun("%s is not a valid WebAssembly module: %w", file, err)
	}

	if _, ok := module.ExportedFunctions()[start]; !ok {
		return nil, cannotRun("%s exports no function %s: it is a library, not a program", file, start)
	}

	if missing := missingImports(module, engine.Module(wasi_snapshot_preview1.ModuleName)); len(missing) > 0 {
		return nil, cannotRun("%s imports what this runtime does not have (it has WASI preview 1, %s): %s",
			file, wasi_snapshot_preview1.ModuleName, strings.Join(missing, ", "))
	}

	return module, nil
}

// missingImports names all functions that the module imports and WASI does not export.
func missingImports(module wazero.CompiledModule, wasi api.Module) []string {
	exported := wasi.ExportedFunctionDefinitions()

	var missing []string

	for _, function := range module.ImportedFunctions() {
		from, name, _ := function.Import()
		if _, ok := exported[name]; from != wasi_snapshot_preview1.ModuleName || !ok {
			missing = append(missing, from+"."+name)
		}
	}

	slices.Sort(missing)

	return slices.Compact(missing)
}

func configure(program program) wazero.ModuleConfig {
	config := wazero.NewModuleConfig().
		WithArgs(program.args...).
		WithStdin(os.Stdin).WithStdout(os.Stdout).WithStderr(os.Stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().
		WithRandSource(rand.Reader)

	if program.root != "" {
		config = config.WithFSConfig(wazero.NewFSConfig().WithReadOnlyDirMount(program.root, "/"))
	}

	for _, variable := range program.environment {
		if name, value, ok := strings.Cut(variable, "="); ok && name != "" {
			config = config.WithEnv(name, value)
		}
	}

	return config
}
