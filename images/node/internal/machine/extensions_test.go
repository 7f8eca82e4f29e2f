package machine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/extensions/services"

	"lab/images/node/internal/extension"
	"lab/images/node/internal/logs"
	"lab/images/node/internal/resources"
	"lab/images/node/internal/supervise"
)

func document(t *testing.T, key string) config.Provider {
	t.Helper()

	text := "apiVersion: v1alpha1\nkind: ExtensionServiceConfig\nname: tailscale\nenvironment: [TS_AUTHKEY=" + key + "]\n"
	if key == "" {
		text = "apiVersion: v1alpha1\nkind: ExtensionServiceConfig\nname: nobody\nenvironment: [A=1]\n"
	}

	provider, err := configloader.NewFromBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}

	return provider
}

// A node that runs takes the documents of a new config: the first releases the service that waits for it, a changed one
// restarts the service, and without one it waits again. No value of a document reaches the console.
func TestDocumentsAppliedToARunningNode(t *testing.T) {
	said := filepath.Join(t.TempDir(), "console")

	file, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}

	stderr := os.Stderr
	os.Stderr = file // where lines go that have no kernel log

	defer func() { os.Stderr = stderr }()

	store, err := resources.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	m := &Machine{store: store, booted: true}
	m.services = supervise.New(nil, logs.NewStore(), func(supervise.Status, supervise.Event) {})
	spec := services.Spec{Name: "tailscale", Depends: []services.Dependency{{Configuration: true}}}
	environments := make(chan []string, 1)

	if err := m.services.Load(supervise.Service{
		ID:         "ext-tailscale",
		Conditions: extension.Conditions(spec, store.State, m.services.Up),
		Run: func(ctx context.Context, report supervise.Report) error {
			m.extensionMu.Lock()
			environment := m.extensionConfigs["tailscale"].Environment
			m.extensionMu.Unlock()

			report(supervise.StateRunning, 1, "Started task ext-tailscale (PID 1) for container ext-tailscale")
			environments <- environment
			<-ctx.Done()

			return nil
		},
	}); err != nil {
		t.Fatal(err)
	}

	m.services.StartAll()
	defer m.services.StopAll()

	waits := func() {
		t.Helper()

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()

		if err := supervise.Poll(ctx, time.Millisecond, func() bool {
			st, _ := m.services.Status("ext-tailscale")

			return st.LastMessage() == "Waiting for extension service config"
		}); err != nil {
			t.Fatal("the service does not wait for its document")
		}
	}
	runsWith := func(want string) {
		t.Helper()

		select {
		case got := <-environments:
			if len(got) != 1 || got[0] != "TS_AUTHKEY="+want {
				t.Fatalf("the service runs with %q", got)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the service does not run")
		}
	}
	apply := func(provider config.Provider) {
		t.Helper()

		if err := m.applyExtensionConfigs(provider); err != nil {
			t.Fatal(err)
		}
	}

	waits()
	apply(document(t, "secret-one"))
	runsWith("secret-one")

	apply(document(t, "secret-one")) // no change, no restart

	apply(document(t, "secret-two"))
	runsWith("secret-two")

	apply(document(t, ""))
	waits()

	apply(document(t, "secret-three"))
	runsWith("secret-three")

	content, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{
		`extension service config of "tailscale" added`, `extension service config of "tailscale" changed`,
		`extension service config of "tailscale" removed`, `of "nobody" added; the image has no extension service of that name`,
	} {
		if !strings.Contains(string(content), want) {
			t.Errorf("want %q on the console:\n%s", want, content)
		}
	}

	if strings.Contains(string(content), "secret") {
		t.Errorf("a value of a document is on the console:\n%s", content)
	}
}
