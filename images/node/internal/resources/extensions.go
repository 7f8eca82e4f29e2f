package resources

import (
	"context"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/talos/pkg/machinery/extensions"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"lab/images/node/internal/console"
	"lab/images/node/internal/layers"
)

// Extensions publishes the system extensions, and with them the pseudo-layers that Talos' tools add to an image
// (modules.dep and schematic). The ids are those of the layers; the name is in the metadata.
func (s *Store) Extensions(list layers.Extensions) {
	for _, layer := range list.Layers {
		Put(s, runtime.NewExtensionStatus(runtime.NamespaceName, layer.ID()), func(r *runtime.ExtensionStatus) {
			*r.TypedSpec() = extensions.Layer{
				Image: layer.Image,
				Metadata: extensions.Metadata{
					Name:        layer.Metadata.Name,
					Version:     layer.Metadata.Version,
					Author:      layer.Metadata.Author,
					Description: layer.Metadata.Description,
					Compatibility: extensions.Compatibility{
						Talos: extensions.Constraint{Version: layer.Metadata.Compatibility.Talos.Version},
					},
				},
			}
		})
	}
}

// ExtensionServiceConfig publishes the config of an extension service (a sensitive resource) and then its status, for
// which services wait: when the status is there, everything of the config is in place.
func (s *Store) ExtensionServiceConfig(name string, spec runtime.ExtensionServiceConfigSpec) {
	config := runtime.NewExtensionServiceConfigSpec(runtime.NamespaceName, name)
	Put(s, config, func(r *runtime.ExtensionServiceConfig) { *r.TypedSpec() = spec })

	published, err := safe.StateGet[*runtime.ExtensionServiceConfig](context.Background(), s.State, config.Metadata())
	if err != nil {
		console.Printf("config of the extension service %q was not published: %v", name, err)

		return
	}

	Put(s, runtime.NewExtensionServiceConfigStatusSpec(runtime.NamespaceName, name), func(r *runtime.ExtensionServiceConfigStatus) {
		r.TypedSpec().SpecVersion = published.Metadata().Version().String()
	})
}

// DropExtensionServiceConfig removes the config of an extension service; the status goes first.
func (s *Store) DropExtensionServiceConfig(name string) {
	s.Drop(runtime.NewExtensionServiceConfigStatusSpec(runtime.NamespaceName, name).Metadata())
	s.Drop(runtime.NewExtensionServiceConfigSpec(runtime.NamespaceName, name).Metadata())
}
