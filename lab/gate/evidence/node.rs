//! A node image: what was found in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lab_image::{Inspection, KernelModule, RuntimeConfig, ServiceFiles};
use lab_model::{Origin, Position, node::Role};

use super::{board::BoardFacts, failure::Failure};
use crate::release::Form;

/// One form of a node image.
#[derive(Debug)]
pub struct NodeEvidence {
    pub role: Role,
    pub variant: String,
    pub board: Option<String>,
    pub form: Form,
    /// The source, as the release file names it.
    pub source: String,
    pub position: Position,
    /// What was found, or why the image could not be read.
    pub facts: Result<NodeFacts, Failure>,
}

impl NodeEvidence {
    /// The image and its part in the release, for messages.
    pub fn place(&self) -> String {
        format!("{} ({}/{} {})", self.source, self.role, self.variant, self.form.as_str())
    }
}

/// What was found in a node image.
#[derive(Debug)]
pub struct NodeFacts {
    pub origin: Origin,
    pub inspection: Inspection,
    pub modules: Arc<ModuleSet>,
    /// The number of executable ELF files in the root.
    pub native: usize,
    /// The executable files of other architectures.
    pub foreign: Vec<ForeignFile>,
    /// The major version of containerd, and the path of its program.
    pub containerd: Option<(u32, String)>,
    /// The configuration files of containerd.
    pub runtimes: Vec<RuntimeFile>,
    /// The programs that runtime handlers and services name, and the architecture of each: `None` if the root has no
    /// such file, `Some(None)` if it is no ELF file.
    pub programs: BTreeMap<String, Option<Option<String>>>,
    pub services: Vec<ServiceFile>,
    /// The device trees of the image, if the release names a board.
    pub board: Option<BoardFacts>,
}

/// A program that is not for arm64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFile {
    pub layer: String,
    pub path: String,
    pub machine: String,
}

/// The kernel modules of an image.
#[derive(Clone, Debug, Default)]
pub struct ModuleSet {
    pub files: Vec<ModuleFile>,
    /// The modules that the kernel has built in, by its own list; `None` if the image has no list.
    pub built_in: Option<BTreeSet<String>>,
    /// The modules that `modules.dep` lists; `None` if the image has no such file for its kernel.
    pub listed: Option<BTreeSet<String>>,
    /// The patterns of devices that built-in modules drive, with the modules.
    pub built_in_aliases: BTreeMap<String, String>,
}

impl ModuleSet {
    /// Whether a module is a file or built in.
    pub fn has(&self, name: &str) -> bool {
        self.read().any(|(_, module)| module.name == name)
            || self.built_in.as_ref().is_some_and(|names| names.contains(name))
    }

    /// The modules that could be read.
    pub fn read(&self) -> impl Iterator<Item = (&ModuleFile, &KernelModule)> {
        self.files.iter().filter_map(|file| Some((file, file.module.as_ref().ok()?)))
    }
}

/// The file of a module.
#[derive(Clone, Debug)]
pub struct ModuleFile {
    pub layer: String,
    pub path: String,
    pub module: Result<KernelModule, String>,
}

impl ModuleFile {
    /// The release in the path, `6.12.57-talos` in `usr/lib/modules/6.12.57-talos/extra/drbd.ko`.
    pub fn directory(&self) -> &str {
        let mut parts = self.path.split('/').skip_while(|part| *part != "modules");
        parts.nth(1).unwrap_or_default()
    }
}

/// A configuration file of containerd.
#[derive(Clone, Debug)]
pub struct RuntimeFile {
    pub layer: String,
    pub path: String,
    pub config: Result<RuntimeConfig, String>,
}

/// The file of an extension service.
#[derive(Clone, Debug)]
pub struct ServiceFile {
    pub layer: String,
    pub path: String,
    pub files: ServiceFiles,
    /// Whether the root directory of the service exists.
    pub has_root: bool,
    /// Where the program was found, if it was.
    pub program: Option<String>,
    /// The sources of mounts that no node has and that Talos cannot create.
    pub impossible_mounts: Vec<String>,
}

/// The modules that a machine config loads.
#[derive(Clone, Debug)]
pub struct ConfigModules {
    pub role: Role,
    pub file: String,
    /// The names, with their positions.
    pub modules: Result<Vec<(String, Position)>, String>,
}
