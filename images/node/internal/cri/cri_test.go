package cri

import (
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
)

const machineConfig = `
version: v1alpha1
machine:
  type: worker
  registries:
    mirrors:
      registry.k8s.io:
        endpoints: [http://10.5.0.1:5000/v2/k8s, http://10.5.0.1:5001]
        overridePath: true
        skipFallback: true
      "*":
        endpoints: [http://10.5.0.1:5000]
      example.com:5000:
        endpoints: [http://10.5.0.1:5000]
        skipFallback: true
cluster:
  controlPlane: {endpoint: "https://10.5.0.2:6443"}
`

func TestHostsOfMirrors(t *testing.T) {
	cfg, err := configloader.NewFromBytes([]byte(machineConfig))
	if err != nil {
		t.Fatal(err)
	}

	files, err := Hosts(cfg.RegistryMirrorConfigs(), cfg.RegistryTLSConfigs(), "")
	if err != nil {
		t.Fatal(err)
	}

	for dir, want := range map[string]string{
		"registry.k8s.io": `server = "http://10.5.0.1:5001"
capabilities = ["pull", "resolve"]
override_path = true
[host."http://10.5.0.1:5000/v2/k8s"]
  capabilities = ["pull", "resolve"]
  override_path = true
[host."http://10.5.0.1:5001"]
  capabilities = ["pull", "resolve"]
  override_path = true
`,
		"_default": `[host."http://10.5.0.1:5000"]
  capabilities = ["pull", "resolve"]
`,
		"example.com_5000_": `server = "http://10.5.0.1:5000"
capabilities = ["pull", "resolve"]
[host."http://10.5.0.1:5000"]
  capabilities = ["pull", "resolve"]
`,
	} {
		if files[dir] != want {
			t.Errorf("%s:\n%s\nwant:\n%s", dir, files[dir], want)
		}

		if err := toml.Unmarshal([]byte(files[dir]), &map[string]any{}); err != nil {
			t.Errorf("%s is not TOML: %v", dir, err)
		}
	}
}

func TestFragmentsOfExtensionsAreMerged(t *testing.T) {
	out, err := Render(map[string][]byte{
		"10-spin.part": []byte("version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.spin]\nruntime_type = \"io.containerd.spin.v2\"\n"),
		"20-old.part":  []byte("[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"example.com/pause:1\"\n"),
	})
	if err != nil {
		t.Fatal(err)
	}

	var got struct {
		Version int
		Plugins map[string]struct {
			Sandbox    string `toml:"sandbox_image"`
			Containerd struct {
				Runtimes map[string]struct {
					Type string `toml:"runtime_type"`
				}
			}
		}
	}
	if err := toml.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}

	cri := got.Plugins[criPlugin]
	if got.Version != 2 || cri.Sandbox != "example.com/pause:1" || cri.Containerd.Runtimes["spin"].Type != "io.containerd.spin.v2" || cri.Containerd.Runtimes["runc"].Type == "" {
		t.Fatalf("%s", out)
	}

	if _, err := Render(map[string][]byte{"bad.part": []byte("[")}); err == nil || !strings.Contains(err.Error(), "bad.part") {
		t.Fatalf("got %v", err)
	}
}

func TestACacheIsAskedBeforeMirrorsAndForEveryRegistry(t *testing.T) {
	cfg, err := configloader.NewFromBytes([]byte(strings.Replace(machineConfig, `"*"`, "quay.io", 1)))
	if err != nil {
		t.Fatal(err)
	}

	const cache = "http://127.0.0.1:3172"

	files, err := Hosts(cfg.RegistryMirrorConfigs(), cfg.RegistryTLSConfigs(), cache)
	if err != nil {
		t.Fatal(err)
	}

	for dir, hosts := range map[string]int{"registry.k8s.io": 3, "quay.io": 2, "example.com_5000_": 2, "_default": 1} {
		text := files[dir]
		if strings.Count(text, "[host.") != hosts || strings.Index(text, "[host.") != strings.Index(text, "[host.\""+cache) {
			t.Errorf("%s: the cache is not the first of %d hosts:\n%s", dir, hosts, text)
		}

		var parsed map[string]any
		if err := toml.Unmarshal([]byte(text), &parsed); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
