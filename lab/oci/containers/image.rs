//! A container image, as it was looked at.

use std::sync::Arc;

use lab_model::Digest;

use super::{
    layer_facts::LayerFacts,
    programs::{ImageKind, Programs},
};
use crate::images::Command;

/// A container image.
#[derive(Clone, Debug)]
pub struct ContainerImage {
    /// The digest of the reference: of an index or of a manifest.
    pub digest: Digest,
    /// The digest of the arm64 image.
    pub image: Digest,
    /// The platforms of the index; empty if the reference is an image and not an index.
    pub platforms: Vec<String>,
    /// The build time (RFC 3339), if the image says it.
    pub created: Option<String>,
    /// The architecture and operating system in the config.
    pub architecture: Option<String>,
    pub os: Option<String>,
    /// The media type of the config.
    pub config_type: Option<String>,
    pub command: Command,
    /// The layers, lowest first.
    pub layers: Vec<Arc<LayerFacts>>,
    /// The sizes of all packed layers, in bytes.
    pub bytes: u64,
    /// How much was read from the registry or the file for this look, in bytes.
    pub read: u64,
}

impl ContainerImage {
    /// Stacks the layers, and follows what a container starts.
    pub fn programs(&self) -> Programs {
        Programs::of(self)
    }

    /// Whether the config is one of an image, and not of an artefact such as a Helm chart.
    pub fn is_image(&self) -> bool {
        self.config_type.as_deref().is_none_or(|kind| {
            ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"]
                .contains(&kind)
        })
    }

    /// Whether the config names WebAssembly instead of a processor.
    pub fn is_wasm(&self) -> bool {
        let names = |text: &Option<String>, prefix: &str| {
            text.as_deref().is_some_and(|text| text.starts_with(prefix))
        };
        names(&self.architecture, "wasm") || names(&self.os, "wasi")
    }

    pub(super) fn kind(&self, native: usize, foreign: usize, scripts: usize) -> ImageKind {
        match () {
            () if !self.is_image() => ImageKind::Artefact,
            () if self.is_wasm() => ImageKind::Wasm,
            () if native + foreign > 0 => ImageKind::Programs,
            () if scripts > 0 => ImageKind::Scripts,
            () => ImageKind::Data,
        }
    }
}
