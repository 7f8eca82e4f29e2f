package extension

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

func TestDocumentsOfAMachineConfig(t *testing.T) {
	provider, err := configloader.NewFromBytes([]byte(`apiVersion: v1alpha1
kind: ExtensionServiceConfig
name: nut-client
configFiles:
  - content: MONITOR
    mountPath: /usr/local/etc/nut/upsmon.conf
environment: [NUT_UPS=upsname]
`))
	if err != nil {
		t.Fatal(err)
	}

	want := Configs{"nut-client": {
		Files:       []runtime.ExtensionServiceConfigFile{{Content: "MONITOR", MountPath: "/usr/local/etc/nut/upsmon.conf"}},
		Environment: []string{"NUT_UPS=upsname"},
	}}
	if got := FromDocuments(provider.ExtensionServiceConfigs()); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}
}

func TestChangesDecideOnRestarts(t *testing.T) {
	spec := func(value string) runtime.ExtensionServiceConfigSpec {
		return runtime.ExtensionServiceConfigSpec{Environment: []string{value}}
	}

	got := Compare(
		Configs{"same": spec("A=1"), "changed": spec("A=1"), "removed": spec("A=1")},
		Configs{"same": spec("A=1"), "changed": spec("A=2"), "added": spec("A=1")},
	)
	if want := []Change{{"added", Added}, {"changed", Changed}, {"removed", Removed}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}

	for _, tc := range []struct {
		kind           ChangeKind
		started, wants bool
	}{
		{Added, true, false}, // it waits for the document and is released by it
		{Added, false, true},
		{Changed, true, true},
		{Changed, false, true},
		{Removed, true, true},
		{Removed, false, true},
	} {
		if got := (Change{"x", tc.kind}).NeedsRestart(tc.started); got != tc.wants {
			t.Errorf("%s, started %v: got %v", tc.kind, tc.started, got)
		}
	}
}

func TestConfigFilesArePrivateAndReplaced(t *testing.T) {
	dir := t.TempDir()
	file := func(path, content string) runtime.ExtensionServiceConfigFile {
		return runtime.ExtensionServiceConfigFile{Content: content, MountPath: path}
	}

	if err := WriteFiles(dir, "nut", []runtime.ExtensionServiceConfigFile{file("/etc/a.conf", "1"), file("/../../etc/b.conf", "2")}); err != nil {
		t.Fatal(err)
	}

	if err := WriteFiles(dir, "nut", []runtime.ExtensionServiceConfigFile{file("/etc/a.conf", "3")}); err != nil {
		t.Fatal(err)
	}

	content, err := os.ReadFile(FilePath(dir, "nut", "/etc/a.conf"))
	if err != nil || string(content) != "3" {
		t.Fatalf("%q %v", content, err)
	}

	if info, _ := os.Stat(FilePath(dir, "nut", "/etc/a.conf")); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}

	if names, _ := filepath.Glob(dir + "/nut/*"); len(names) != 1 {
		t.Errorf("files left: %v", names)
	}

	if err := WriteFiles(dir, "nut", nil); err != nil {
		t.Fatal(err)
	}

	if _, err := os.Stat(dir + "/nut"); !os.IsNotExist(err) {
		t.Error("the files of a removed document are still there")
	}
}

func TestPathOfAConfigFileStaysInItsDirectory(t *testing.T) {
	for mount, want := range map[string]string{
		"/usr/local/etc/nut/upsmon.conf": "/d/nut/usr-local-etc-nut-upsmon.conf",
		"/../../etc/passwd":              "/d/nut/etc-passwd",
	} {
		if got := FilePath("/d", "nut", mount); got != want {
			t.Errorf("%s: %s", mount, got)
		}
	}
}
