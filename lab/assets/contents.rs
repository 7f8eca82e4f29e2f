//! What the layers of an image hold.

use serde::Serialize;

use super::extensions::Extension;

/// What the layers of an image hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// System extensions, without the pseudo-layers of the list.
    pub extensions: Vec<Extension>,
    /// Services that the extensions bring.
    pub services: Vec<ExtensionService>,
    /// Runtime handlers that the extensions bring.
    pub runtime_handlers: Vec<String>,
    /// Kernel modules that the extensions bring.
    pub kernel_modules: Vec<String>,
    /// What the node software calls itself.
    pub node_version: Option<String>,
}

/// A service that an extension brings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExtensionService {
    /// Its id, `ext-NAME`.
    pub id: String,
    /// The extension that brings it.
    pub extension: String,
    /// What it depends on, in words.
    pub depends: Vec<String>,
    /// It waits for an ExtensionServiceConfig.
    pub needs_configuration: bool,
}
