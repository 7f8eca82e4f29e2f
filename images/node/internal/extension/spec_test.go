package extension

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/extensions/services"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"go.yaml.in/yaml/v4"

	"lab/images/node/internal/logs"
	"lab/images/node/internal/process"
	"lab/images/node/internal/resources"
	"lab/images/node/internal/supervise"
)

const tailscale = `
name: tailscale
container:
  entrypoint: /usr/local/bin/containerboot
  args: [--verbose]
  environment: [PATH=/usr/local/bin, TS_STATE_DIR=/var/lib/tailscale]
  mounts:
    - {source: /dev/net/tun, destination: /dev/net/tun, type: bind, options: [bind, rw]}
    - {source: /var/lib/tailscale, destination: /var/lib/tailscale, type: bind, options: [rbind, rw]}
depends:
  - service: cri
  - path: /etc/resolv.conf
  - network: [addresses, connectivity]
  - time: true
  - configuration: true
restart: always
`

func parse(t *testing.T, text string) services.Spec {
	t.Helper()

	var spec services.Spec
	if err := yaml.Unmarshal([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}

	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}

	return spec
}

func TestInvalidSpecCostsOnlyItself(t *testing.T) {
	dir := t.TempDir()

	for name, content := range map[string]string{
		"10-bad.yaml":   "name: BAD\nrestart: always\ncontainer: {entrypoint: x}\n",
		"20-tail.yaml":  tailscale,
		"30-again.yaml": "name: tailscale\nrestart: never\ncontainer: {entrypoint: x}\n",
		"40-text.yaml":  "\t:",
		"50-hello.yaml": "name: hello\nrestart: never\ncontainer: {entrypoint: ./hello}\n",
		"readme.txt":    "no spec",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	specs, problems := Load(dir)
	if len(specs) != 2 || specs[0].Name != "tailscale" || specs[1].Name != "hello" {
		t.Fatalf("%+v", specs)
	}

	for i, want := range [][]string{
		{"10-bad.yaml is left out", `name "BAD" is invalid`},
		{"30-again.yaml is left out", `"tailscale" is already described by`, "20-tail.yaml"},
		{"40-text.yaml is left out", "not the YAML of a spec"},
	} {
		for _, part := range want {
			if !strings.Contains(problems[i].Error(), part) {
				t.Errorf("want %q in %q", part, problems[i])
			}
		}
	}

	if specs, problems := Load(dir + "/none"); len(specs)+len(problems) != 0 {
		t.Fatal("a missing directory is an image without extension services")
	}
}

func TestDependenciesAreWordedAsInTalos(t *testing.T) {
	store, err := resources.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	s := supervise.New(nil, logs.NewStore(), func(supervise.Status, supervise.Event) {})
	if err := s.Load(supervise.Service{ID: "cri", Serve: untilDone}); err != nil {
		t.Fatal(err)
	}

	spec := parse(t, tailscale)
	spec.Depends[1].Path = "/does/not/exist"
	spec.Container.EnvironmentFile = "/var/etc/env"

	var got []string
	for _, c := range Conditions(spec, store.State, s.Up) {
		got = append(got, c.String())
	}

	want := []string{
		`file "/var/etc/env" to exist`, `service "cri" to be "up"`, `file "/does/not/exist" to exist`, "network", "time sync", "extension service config",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q", got)
	}
}

func untilDone(ctx context.Context) error { <-ctx.Done(); return nil }

// The life of an unconfigured service: it holds the boot up, says why, and goes on when its document arrives.
func TestUnconfiguredServiceWaitsForItsDocument(t *testing.T) {
	store, err := resources.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	store.NetworkReady(true)
	store.Time(true, false)

	spec := parse(t, tailscale)
	s := supervise.New(process.NewReaper(), logs.NewStore(), func(supervise.Status, supervise.Event) {})

	if err := s.Load(
		supervise.Service{ID: "cri", Serve: untilDone},
		supervise.Service{ID: "ext-tailscale", DependsOn: []string{"cri"}, Conditions: Conditions(spec, store.State, s.Up), Serve: untilDone},
	); err != nil {
		t.Fatal(err)
	}

	s.StartAll()
	defer s.StopAll()

	said := func(message string) {
		t.Helper()

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()

		if err := supervise.Poll(ctx, 5*time.Millisecond, func() bool {
			st, _ := s.Status("ext-tailscale")

			return st.LastMessage() == message
		}); err != nil {
			st, _ := s.Status("ext-tailscale")
			t.Fatalf("want %q, the last message is %q", message, st.LastMessage())
		}
	}

	said("Waiting for extension service config")

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()

	if err := s.WaitAllUp(short, func([]supervise.Status) {}); err == nil {
		t.Fatal("the boot went on without the document")
	}

	store.ExtensionServiceConfig("another", runtime.ExtensionServiceConfigSpec{})
	store.ExtensionServiceConfig("tailscale", runtime.ExtensionServiceConfigSpec{Environment: []string{"TS_AUTHKEY=x"}})
	said("Service started as goroutine")

	if err := s.WaitAllUp(t.Context(), func([]supervise.Status) {}); err != nil {
		t.Fatal(err)
	}

	// Without its document the service is back where it was.
	store.DropExtensionServiceConfig("tailscale")

	if err := s.Stop("ext-tailscale"); err != nil {
		t.Fatal(err)
	}

	_ = s.Start("ext-tailscale")
	said("Waiting for extension service config")
}
