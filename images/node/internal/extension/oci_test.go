package extension

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

func inputs() Inputs {
	return Inputs{
		Rootfs: "/usr/local/lib/containers/tailscale", ConfigDir: "/system/config",
		Environment:  []string{"https_proxy=http://proxy"},
		File:         []string{"FROM_FILE=1"},
		Capabilities: []string{"CAP_NET_ADMIN"},
		Config: runtime.ExtensionServiceConfigSpec{
			Environment: []string{"TS_AUTHKEY=key", "PATH=/config/bin"},
			Files:       []runtime.ExtensionServiceConfigFile{{Content: "x", MountPath: "/etc/ts.conf"}},
		},
	}
}

func mountAt(t *testing.T, spec *specs.Spec, destination string) specs.Mount {
	t.Helper()

	var found []specs.Mount

	for _, m := range spec.Mounts {
		if m.Destination == destination {
			found = append(found, m)
		}
	}

	if len(found) != 1 {
		t.Fatalf("%d mounts at %s", len(found), destination)
	}

	return found[0]
}

func TestContainerOfAService(t *testing.T) {
	got := OCI(parse(t, tailscale), inputs())

	if got.Root.Path != "/usr/local/lib/containers/tailscale" || !got.Root.Readonly {
		t.Errorf("root %+v", got.Root)
	}

	if want := []string{"/usr/local/bin/containerboot", "--verbose"}; !slices.Equal(got.Process.Args, want) {
		t.Errorf("args %q", got.Process.Args)
	}

	want := []string{"PATH=/config/bin", "https_proxy=http://proxy", "FROM_FILE=1", "TS_STATE_DIR=/var/lib/tailscale", "TS_AUTHKEY=key"}
	if !slices.Equal(got.Process.Env, want) {
		t.Errorf("environment %q", got.Process.Env)
	}

	for _, n := range got.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace || n.Type == specs.UTSNamespace {
			t.Errorf("the %s namespace must be the node's", n.Type)
		}
	}

	if got.Linux.CgroupsPath != "/system/extensions/tailscale" || !got.Linux.Resources.Devices[0].Allow {
		t.Errorf("%+v", got.Linux)
	}

	config := mountAt(t, got, "/etc/ts.conf")
	if config.Source != "/system/config/tailscale/etc-ts.conf" || !slices.Contains(config.Options, "ro") {
		t.Errorf("config file %+v", config)
	}

	if at := mountAt(t, got, "/sys"); !slices.Contains(at.Options, "ro") {
		t.Errorf("sysfs %+v", at)
	}

	if len(got.Linux.MaskedPaths) == 0 || len(got.Linux.ReadonlyPaths) == 0 {
		t.Error("nothing is masked by default")
	}

	mountAt(t, got, "/dev/net/tun")
}

func TestSecuritySectionIsHonoured(t *testing.T) {
	spec := parse(t, tailscale)
	spec.Container.Security.WriteableRootfs = true
	spec.Container.Security.WriteableSysfs = true
	spec.Container.Security.RootfsPropagation = "rshared"
	spec.Container.Security.MaskedPaths = []string{}
	spec.Container.Security.ReadonlyPaths = []string{"/proc/sys"}
	spec.Container.Mounts = append(spec.Container.Mounts, specs.Mount{Source: "/run/own", Destination: "/run", Type: "bind"})

	got := OCI(spec, inputs())
	if got.Root.Readonly || got.Linux.RootfsPropagation != "rshared" || len(got.Linux.MaskedPaths) != 0 {
		t.Errorf("%+v %+v", got.Root, got.Linux)
	}

	if !slices.Equal(got.Linux.ReadonlyPaths, []string{"/proc/sys"}) {
		t.Errorf("%q", got.Linux.ReadonlyPaths)
	}

	if at := mountAt(t, got, "/sys"); slices.Contains(at.Options, "ro") || !slices.Contains(at.Options, "rw") {
		t.Errorf("sysfs %+v", at)
	}

	if at := mountAt(t, got, "/run"); at.Source != "/run/own" {
		t.Errorf("the spec's own mount at /run lost to %+v", at)
	}

	if at := mountAt(t, OCI(parse(t, tailscale), inputs()), "/sys"); !slices.Contains(at.Options, "ro") {
		t.Error("one service's option changed the standard mounts")
	}
}

func TestGrantableCapabilities(t *testing.T) {
	all := Grantable(1<<41 - 1)
	if len(all) != 39 || slices.Contains(all, "CAP_SYS_MODULE") || slices.Contains(all, "CAP_SYS_BOOT") || all[38] != "CAP_CHECKPOINT_RESTORE" {
		t.Fatalf("%d: %q", len(all), all)
	}

	if got := Grantable(1<<12 | 1<<21); !slices.Equal(got, []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}) {
		t.Fatalf("%q", got)
	}
}

func TestEnvironmentFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte("# comment\n\nA=1\nexport B=\"two words\"\nC='x=y'\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	got, err := ReadEnvironmentFile(path)
	if err != nil || !slices.Equal(got, []string{"A=1", "B=two words", "C=x=y"}) {
		t.Fatalf("%q %v", got, err)
	}

	if err := os.WriteFile(path, []byte("A=1\nsecret-without-name\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	if _, err := ReadEnvironmentFile(path); err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "secret") {
		t.Fatalf("%v", err)
	}
}

func TestOutputIsPassedOnByLines(t *testing.T) {
	var got []string

	w := Lines(func(line string) { got = append(got, line) })
	for _, part := range []string{"one\ntw", "o\r\n", "rest"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}

	if !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("%q", got)
	}
}
