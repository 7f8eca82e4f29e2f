package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

const (
	// spinAddress names the address that Spin's HTTP trigger listens on, and its default.
	spinAddress        = "SPIN_HTTP_LISTEN_ADDR"
	defaultSpinAddress = "0.0.0.0:80"
	// wildcard is the end of a route that stands for all paths below it.
	wildcard = "/..."
	// bodyLimit bounds what a module reads and writes for one request.
	bodyLimit = 1 << 20
	// headTimeout is how long a client may take for the head of its request.
	headTimeout = 10 * time.Second
)

// manifest is the part of a Spin manifest, version 2, that this runtime serves: HTTP triggers with the wagi executor.
type manifest struct {
	Version int `toml:"spin_manifest_version"`
	Trigger struct {
		HTTP []trigger `toml:"http"`
	} `toml:"trigger"`
	Component map[string]component `toml:"component"`
}

type trigger struct {
	Route     string `toml:"route"`
	Component string `toml:"component"`
	Executor  struct {
		Type string `toml:"type"`
	} `toml:"executor"`
}

type component struct {
	// Source is a file beside the manifest; Spin also knows tables with a URL.
	Source      any               `toml:"source"`
	Environment map[string]string `toml:"environment"`
}

// route is a path, or all paths below it, with the module that answers.
type route struct {
	path    string
	below   bool
	module  wazero.CompiledModule
	program program
}

// application serves the routes of a manifest.
type application struct {
	engine wazero.Runtime
	routes []route
}

// serveSpin serves the application of a manifest until the process ends; the error says why it cannot.
func serveSpin(ctx context.Context, file, address string) error {
	engine := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer engine.Close(ctx)

	served, err := loadApplication(ctx, engine, file)
	if err != nil {
		return err
	}

	if address == "" {
		address = defaultSpinAddress
	}

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return cannotRun("opening the socket of %s=%s: %w", spinAddress, address, err)
	}

	fmt.Printf("Serving http://%s\n", listener.Addr())

	server := http.Server{Handler: served, ReadHeaderTimeout: headTimeout}

	return server.Serve(listener)
}

func loadApplication(ctx context.Context, engine wazero.Runtime, file string) (*application, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, failure{status: statusNoSuchFile, error: fmt.Errorf("failed to read manifest: %w", err)}
	}

	var known manifest
	if err := toml.Unmarshal(content, &known); err != nil {
		return nil, cannotRun("invalid manifest %s: %w", file, err)
	}

	if known.Version != 2 {
		return nil, cannotRun("manifest %s has spin_manifest_version %d; known is 2", file, known.Version)
	}

	if len(known.Trigger.HTTP) == 0 {
		return nil, cannotRun("manifest %s has no [[trigger.http]]", file)
	}

	served := &application{engine: engine}
	if err := instantiateWASI(ctx, engine); err != nil {
		return nil, err
	}

	for _, trigger := range known.Trigger.HTTP {
		one, err := loadRoute(ctx, engine, filepath.Dir(file), known, trigger)
		if err != nil {
			return nil, err
		}

		served.routes = append(served.routes, one)
	}

	// The longest path decides, and an exact one before all paths below it.
	slices.SortStableFunc(served.routes, func(a, b route) int {
		if len(a.path) != len(b.path) {
			return len(b.path) - len(a.path)
		}

		if a.below == b.below {
			return 0
		}

		if b.below {
			return -1
		}

		return 1
	})

	return served, nil
}

func loadRoute(ctx context.Context, engine wazero.Runtime, folder string, known manifest, trigger trigger) (route, error) {
	if trigger.Executor.Type != "wagi" {
		return route{}, cannotRun("route %s has the executor %q; this runtime serves \"wagi\" (Spin serves others too)",
			trigger.Route, trigger.Executor.Type)
	}

	component, ok := known.Component[trigger.Component]
	if !ok {
		return route{}, cannotRun("route %s names the component %q, which the manifest does not have", trigger.Route, trigger.Component)
	}

	source, ok := component.Source.(string)
	if !ok {
		return route{}, cannotRun("component %s has no file as its source", trigger.Component)
	}

	file := filepath.Join(folder, source)

	content, err := read(file)
	if err != nil {
		return route{}, err
	}

	module, err := compile(ctx, engine, file, content)
	if err != nil {
		return route{}, err
	}

	one := route{module: module, program: program{args: []string{source}}}
	for name, value := range component.Environment {
		one.program.environment = append(one.program.environment, name+"="+value)
	}

	one.path, one.below = strings.CutSuffix(trigger.Route, wildcard)
	one.path = "/" + strings.Trim(one.path, "/")

	return one, nil
}

func (r route) matches(path string) bool {
	if path == r.path {
		return true
	}

	return r.below && (r.path == "/" || strings.HasPrefix(path, r.path+"/"))
}

func (a *application) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	at := slices.IndexFunc(a.routes, func(r route) bool { return r.matches(request.URL.Path) })
	if at < 0 {
		http.NotFound(response, request)

		return
	}

	output, err := a.run(request, a.routes[at])
	if err == nil {
		err = output.answer(response)
	}

	if err != nil {
		fmt.Fprintf(os.Stderr, "wasm-run: %s %s: %v\n", request.Method, request.URL.Path, err)
		http.Error(response, "the module did not answer", http.StatusInternalServerError)
	}
}

// run runs the module of a route for one request, as a CGI program (RFC 3875).
func (a *application) run(request *http.Request, one route) (cgiOutput, error) {
	var output limited

	config := configure(one.program).WithName("").
		WithStdin(io.LimitReader(request.Body, bodyLimit)).WithStdout(&output)

	for name, value := range cgiVariables(request, one) {
		config = config.WithEnv(name, value)
	}

	instance, err := a.engine.InstantiateModule(request.Context(), one.module, config)
	if instance != nil {
		defer instance.Close(request.Context())
	}

	var exit *sys.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 0) {
		return nil, err
	}

	return output.Bytes(), nil
}

func cgiVariables(request *http.Request, one route) map[string]string {
	host, port, err := net.SplitHostPort(request.Host)
	if err != nil {
		host, port = request.Host, "80"
	}

	remote, _, _ := net.SplitHostPort(request.RemoteAddr)
	variables := map[string]string{
		"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "WAGI/1", "SERVER_PROTOCOL": request.Proto,
		"REQUEST_METHOD": request.Method, "QUERY_STRING": request.URL.RawQuery,
		"SCRIPT_NAME": one.path, "PATH_INFO": strings.TrimPrefix(request.URL.Path, strings.TrimSuffix(one.path, "/")),
		"SERVER_NAME": host, "SERVER_PORT": port, "REMOTE_ADDR": remote,
		"CONTENT_TYPE": request.Header.Get("Content-Type"), "CONTENT_LENGTH": strconv.FormatInt(max(0, request.ContentLength), 10),
	}

	for name, values := range request.Header {
		variables["HTTP_"+strings.ReplaceAll(strings.ToUpper(name), "-", "_")] = strings.Join(values, ", ")
	}

	for name, value := range variables {
		if strings.ContainsRune(value, 0) {
			delete(variables, name)
		}
	}

	return variables
}

// cgiOutput is what a CGI program writes: header fields, an empty line, a body.
type cgiOutput []byte

func (o cgiOutput) answer(response http.ResponseWriter) error {
	head, body, found := bytes.Cut(bytes.ReplaceAll(o[:min(len(o), bodyLimit)], []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	if !found {
		return errors.New("its output has no empty line after the header fields")
	}

	status := http.StatusOK

	for line := range strings.Lines(string(head)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)); !found {
			return fmt.Errorf("its output has the line %q among the header fields", line)
		}

		value = strings.TrimSpace(value)

		if name != "Status" {
			response.Header().Set(name, value)

			continue
		}

		number, _, _ := strings.Cut(value, " ")

		code, err := strconv.Atoi(number)
		if err != nil || code < 100 || code > 999 {
			return fmt.Errorf("its output has the status %q", value)
		}

		status = code
	}

	if response.Header().Get("Content-Type") == "" && response.Header().Get("Location") == "" {
		return errors.New("its output has neither Content-Type nor Location")
	}

	response.WriteHeader(status)
	_, err := response.Write(body)

	return err
}

// limited keeps the first bytes that are written to it, and fails after that.
type limited struct{ bytes.Buffer }

func (l *limited) Write(data []byte) (int, error) {
	if l.Len()+len(data) > bodyLimit {
		return 0, errors.New("the answer is too large")
	}

	return l.Buffer.Write(data)
}
