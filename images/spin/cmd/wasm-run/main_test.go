package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary behave as the program itself.
const asProgram = "WASM_RUN_TEST_AS_PROGRAM"

// limit bounds what takes milliseconds, generously for a loaded machine.
const limit = 20 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}

	os.Exit(m.Run())
}

func command(t *testing.T, environment []string, args ...string) *exec.Cmd {
	t.Helper()

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	started := exec.CommandContext(t.Context(), program, args...)
	started.Env = append([]string{asProgram + "=1"}, environment...)

	return started
}

func file(t *testing.T, content []byte) string {
	t.Helper()

	name := filepath.Join(t.TempDir(), "module.wasm")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}

	return name
}

func TestExitStatusSaysHowTheModuleEnded(t *testing.T) {
	component := []byte("\x00asm\x0d\x00\x01\x00")
	cases := map[string]struct {
		content []byte
		status  int
		says    string
	}{
		"its own status":        {assemble("proc_exit", start, bodyCall(42)), 42, ""},
		"status zero":           {assemble("proc_exit", start, bodyCall(0)), 0, ""},
		"a plain return":        {assemble("proc_exit", start, bodyReturn), 0, ""},
		"a trap":                {assemble("proc_exit", start, bodyTrap), 134, "unreachable"},
		"a missing import":      {assemble("sock_connect", start, bodyReturn), 126, "wasi_snapshot_preview1.sock_connect"},
		"no start function":     {assemble("proc_exit", "main", bodyReturn), 126, "exports no function _start"},
		"no module":             {[]byte("#!/bin/sh\nexit 0\n"), 126, "is not a WebAssembly module"},
		"an empty file":         {nil, 126, "is not a WebAssembly module"},
		"a component":           {component, 126, "wasm32-wasip1"},
		"a module cut in half":  {assemble("proc_exit", start, bodyReturn)[:40], 126, "not a valid WebAssembly module"},
		"an unknown version":    {[]byte("\x00asm\x02\x00\x00\x00"), 126, "version 2"},
		"a magic number, alone": {[]byte("\x00asm"), 126, "is not a WebAssembly module"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			run := command(t, nil, file(t, test.content))
			output, err := run.CombinedOutput()

			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}

			if status := run.ProcessState.ExitCode(); status != test.status || !strings.Contains(string(output), test.says) {
				t.Errorf("status %d, output %q", status, output)
			}
		})
	}
}

func TestAMissingFileHasItsOwnStatus(t *testing.T) {
	run := command(t, nil, "/no/such/module.wasm")
	output, _ := run.CombinedOutput()

	if status := run.ProcessState.ExitCode(); status != 127 || !strings.Contains(string(output), "/no/such/module.wasm") {
		t.Errorf("status %d, output %q", status, output)
	}
}

// With one processor the loop would keep the signal waiting if the program did not ask for a second thread.
func TestASignalEndsAModuleThatLoops(t *testing.T) {
	run := command(t, []string{"GOMAXPROCS=1"}, file(t, assemble("proc_exit", start, bodyLoop)))
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}

	// The module says nothing when it loops: its use of the processor does.
	awaitCPUTime(t, run.Process.Pid)
	expectStatus(t, run, 143)
}

// awaitCPUTime waits until a process has used a tenth of a second.
func awaitCPUTime(t *testing.T, pid int) {
	t.Helper()

	const ticks = 10 // of a hundredth of a second

	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			t.Fatal(err)
		}

		fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))

		used, err := strconv.Atoi(fields[11]) // utime, field 14 of proc_pid_stat(5)
		if err != nil {
			t.Fatal(err)
		}

		if used >= ticks {
			return
		}
	}

	t.Fatalf("the module has not used %d ticks in %v", ticks, limit)
}

func expectStatus(t *testing.T, run *exec.Cmd, want int) {
	t.Helper()

	if err := run.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	timer := time.AfterFunc(limit, func() { _ = run.Process.Kill() })
	defer timer.Stop()

	_ = run.Wait()

	if status := run.ProcessState.ExitCode(); status != want {
		t.Errorf("status %d, want %d", status, want)
	}
}

// answerModule is the assembled images/workloads/wasm/answer.wat. No Go module assembles the text form: whoever runs the
// tests assembles it and names the file. In CI that must not be forgotten.
func answerModule(t *testing.T) string {
	t.Helper()

	name := os.Getenv("ANSWER_WASM")
	if name == "" {
		const how = "ANSWER_WASM does not name the assembled images/workloads/wasm/answer.wat"
		if os.Getenv("CI") != "" {
			t.Fatal(how)
		}

		t.Skip(how)
	}

	return name
}

func TestAnswerEndsWithTheStatusAskedFor(t *testing.T) {
	module := answerModule(t)
	for code, want := range map[string]int{"0": 0, "7": 7, "255": 255, "256": 1, "x": 1, "": 1} {
		run := command(t, []string{"EXIT_CODE=" + code}, module)
		output, _ := run.CombinedOutput()

		if status := run.ProcessState.ExitCode(); status != want || !strings.HasPrefix(string(output), "answer: ") {
			t.Errorf("EXIT_CODE=%s: status %d, output %q", code, status, output)
		}
	}
}

func TestAnswerWithoutASocketSaysSo(t *testing.T) {
	run := command(t, nil, answerModule(t))
	output, _ := run.CombinedOutput()

	if status := run.ProcessState.ExitCode(); status != 1 || !strings.Contains(string(output), "WASI_TCP_LISTEN") {
		t.Errorf("status %d, output %q", status, output)
	}
}

func TestAnswerServesWhateverItsClientsDo(t *testing.T) {
	address := freeAddress(t)
	run := command(t, []string{listenVariable + "=" + address, "NODE_NAME=worker-1", `POD_NAME=a"\b`}, answerModule(t))

	expectFirstLine(t, run, "worker-1")

	const want = `{"node":"worker-1","pod":"a\"\\b","runtime":"wasm"}` + "\n"

	expectBody(t, address, "/", want)
	expectBody(t, address, "/healthz", want)

	for _, sent := range []string{"", "GET", strings.Repeat("x", 20_000)} {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}

		_, _ = io.WriteString(connection, sent)
		_ = connection.(*net.TCPConn).SetLinger(0) // a reset, not an orderly end
		_ = connection.Close()
	}

	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	expectBody(t, address, "/", want)
	expectStatus(t, run, 143) // it blocks in accept now
}

// expectFirstLine starts a program and waits for its first line of output.
func expectFirstLine(t *testing.T, run *exec.Cmd, part string) {
	t.Helper()

	output, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := run.Start(); err != nil {
		t.Fatal(err)
	}

	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || !strings.Contains(line, part) {
		t.Fatalf("first line %q, %v", line, err)
	}
}

func expectBody(t *testing.T, address, path, want string) {
	t.Helper()

	client := http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}

	response, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != want || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %q, %v, %v", path, body, response.Header, err)
	}
}

// freeAddress is an address of loopback that nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	return listener.Addr().String()
}
