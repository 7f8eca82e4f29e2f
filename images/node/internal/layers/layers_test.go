package layers

import "testing"

func TestOverlayPutsTheLastListedLayerOnTop(t *testing.T) {
	if got := OverlayOption([]string{"/root", "/0", "/1"}); got != "lowerdir=/1:/0:/root" {
		t.Fatal(got)
	}
}

func TestParse(t *testing.T) {
	ext, err := Parse([]byte("layers:\n- image: 0.sqsh\n  metadata: {name: drbd, version: 9.2.14, compatibility: {talos: {version: '>= v1.11.0'}}}\n"))
	if err != nil {
		t.Fatal(err)
	}

	if l := ext.Layers[0]; l.Image != "0.sqsh" || l.Metadata.Name != "drbd" || l.Metadata.Compatibility.Talos.Version != ">= v1.11.0" {
		t.Fatalf("%+v", l)
	}

	if _, err := Parse([]byte("layers:\n- image: ../etc/shadow\n")); err == nil {
		t.Fatal("a path outside the initramfs was accepted")
	}
}

func TestResourceIDIsTheImageWithoutItsSuffix(t *testing.T) {
	for image, want := range map[string]string{"0.sqsh": "0", "modules.dep.sqsh": "modules.dep", "schematic.sqsh": "schematic"} {
		if got := (Layer{Image: image}).ID(); got != want {
			t.Errorf("%s: %s", image, got)
		}
	}
}
