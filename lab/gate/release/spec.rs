//! A release as plain data.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use lab_model::{Position, Source, node::Role};
use lab_oci::images::Reference;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::tag::ReleaseTag;

/// A release: its parts, and what must hold.
#[derive(Clone, Debug)]
pub struct Release {
    /// The release file, as the user named it.
    pub file: String,
    /// The directory of the release file.
    pub directory: PathBuf,
    /// The name of the release, usually its tag.
    pub name: String,
    /// The tag, if the name has the form of one.
    pub tag: Option<ReleaseTag>,
    /// The tag of the release before.
    pub previous: Option<String>,
    /// The registry of the release, with or without a path, e.g. `ghcr.io/you`.
    pub registry: Option<String>,
    /// Other registries that parts may come from.
    pub also_from: Vec<String>,
    /// The version of Talos, from the file or from the tag.
    pub talos: Option<Version>,
    pub roles: BTreeMap<Role, RoleRule>,
    pub boards: BTreeMap<String, Board>,
    /// The node images, by role and hardware variant.
    pub nodes: Vec<NodeVariant>,
    /// The container images of the platform.
    pub containers: Vec<ListedSource>,
    /// Files with references to container images: rendered manifests, values of charts, `.tag` files.
    pub manifests: Vec<ListedFile>,
    /// OCI artefacts whose files name container images.
    pub packages: Vec<(Box<Reference>, Position)>,
    /// Documents that name digests and tags.
    pub documents: Vec<ListedFile>,
    /// Machine configs.
    pub configs: Vec<ConfigFile>,
    /// The key that signs the parts, and what is required.
    pub provenance: Option<ProvenanceRule>,
    /// The maximum age of a build that `latest` also names.
    pub age: Duration,
    /// Findings that the release accepts.
    pub accepted: Vec<Acceptance>,
}

/// How signatures and attestations are verified. What exists must be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenanceRule {
    /// The file of the public key, in PEM.
    pub key: PathBuf,
    /// Whether each part must have a signature.
    pub signatures: bool,
    /// Whether each part must have an attestation.
    pub attestations: bool,
}

/// What must hold for a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleRule {
    /// The exact set of extensions.
    pub extensions: Option<Vec<String>>,
}

/// A board, by what its image must contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// Device trees, by file name or by the end of their path.
    pub device_trees: Vec<String>,
    /// Device tree overlays, in the same form.
    pub overlays: Vec<String>,
    /// Values of `compatible` of devices that the device trees must have, and that must have a driver.
    pub devices: Vec<String>,
}

/// A node image in all its forms.
#[derive(Clone, Debug)]
pub struct NodeVariant {
    pub role: Role,
    /// The hardware variant; images of the same variant have the same kernel and root.
    pub variant: String,
    pub board: Option<String>,
    pub parts: Vec<NodePart>,
}

impl NodeVariant {
    /// The role and the variant, for messages.
    pub fn name(&self) -> String {
        format!("{}/{}", self.role, self.variant)
    }
}

/// One form of a node image.
#[derive(Clone, Debug)]
pub struct NodePart {
    pub form: Form,
    pub source: Source,
    pub position: Position,
}

/// The forms in which a release publishes a node image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Kernel and initramfs.
    Image,
    Installer,
    Matchbox,
    /// A raw disk image.
    Raw,
}

impl Form {
    pub const ALL: [Self; 4] = [Self::Image, Self::Installer, Self::Matchbox, Self::Raw];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Installer => "installer",
            Self::Matchbox => "matchbox",
            Self::Raw => "raw",
        }
    }
}

/// An image that the release file names.
#[derive(Clone, Debug)]
pub struct ListedSource {
    pub source: Source,
    pub position: Position,
}

/// A file that the release file names.
#[derive(Clone, Debug)]
pub struct ListedFile {
    /// The path relative to the directory of the release file.
    pub path: PathBuf,
    pub position: Position,
}

/// A machine config, and the role of its nodes.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub role: Role,
    pub file: ListedFile,
}

/// Findings that the release accepts, with a reason.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The rule of the findings.
    pub rule: String,
    /// A text in the place or the message of the findings.
    pub place: String,
    pub reason: String,
    pub position: Position,
}
