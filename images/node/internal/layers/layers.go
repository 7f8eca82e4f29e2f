// Package layers knows how a Talos-layout initramfs names its root file system and system extensions.
//
// It is shared by /init, which mounts the layers, and by the agent, which reports them.
package layers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// RootImage is the squashfs of the base system in the initramfs.
const RootImage = "rootfs.sqsh"

// ExtensionsFile is the list of extension layers, both in the initramfs and in the running system's /etc.
const ExtensionsFile = "extensions.yaml"

// Metadata describes one system extension.
type Metadata struct {
	Name          string `yaml:"name"`
	Version       string `yaml:"version"`
	Author        string `yaml:"author"`
	Description   string `yaml:"description"`
	Compatibility struct {
		Talos struct {
			Version string `yaml:"version"`
		} `yaml:"talos"`
	} `yaml:"compatibility"`
}

// Layer is one extension: its squashfs in the initramfs and its metadata.
type Layer struct {
	Image    string   `yaml:"image"`
	Metadata Metadata `yaml:"metadata"`
}

// ID is the resource id that Talos gives the layer: the image's name without its suffix ("0", "modules.dep").
func (l Layer) ID() string { return strings.TrimSuffix(l.Image, filepath.Ext(l.Image)) }

// Extensions is the content of extensions.yaml.
type Extensions struct {
	Layers []Layer `yaml:"layers"`
}

// Read loads extensions.yaml; a file that does not exist means that there are none.
func Read(path string) (Extensions, error) {
	var ext Extensions

	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return ext, nil
	}

	if err != nil {
		return ext, err
	}

	return Parse(b)
}

// Parse reads extensions.yaml and refuses layers that name no file of the initramfs.
func Parse(b []byte) (Extensions, error) {
	var ext Extensions

	if err := yaml.Unmarshal(b, &ext); err != nil {
		return ext, fmt.Errorf("parse extensions.yaml: %w", err)
	}

	for i, layer := range ext.Layers {
		if layer.Image == "" || strings.Contains(layer.Image, "/") {
			return ext, fmt.Errorf("extensions.yaml: layer %d names the image %q; want the name of a file at the top of the initramfs", i, layer.Image)
		}
	}

	return ext, nil
}

// OverlayOption is the mount option of an overlay of mounted directories, given from lowest to topmost.
func OverlayOption(lowestFirst []string) string {
	top := make([]string, 0, len(lowestFirst))
	for i := len(lowestFirst) - 1; i >= 0; i-- {
		top = append(top, lowestFirst[i])
	}

	return "lowerdir=" + strings.Join(top, ":")
}
