//! The contents of image layers: extension services, runtime handlers, kernel modules.
//!
//! The paths follow the Talos layout: specs of extension services in `/usr/local/etc/containers`
//! (pkg/machinery/extensions/services), parts of the containerd configuration in `/etc/cri/conf.d`. Talos
//! stacks the layers as an overlay at boot, so a file in a later layer replaces the file with the same path
//! in an earlier layer.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek},
};

use serde::{Deserialize, Serialize};

use super::{
    containerd::RuntimeConfig,
    extensions::Extension,
    machine::ElfHead,
    plain::plain,
    service_spec::ServiceSpec,
    squashfs::{Squashfs, SquashfsError},
};

/// The layer with the root file system.
pub(super) const ROOT_LAYER: &str = "rootfs.sqsh";
/// Entries in `extensions.yaml` that are not extensions. The image factory adds them.
const PSEUDO_EXTENSIONS: [&str; 2] = ["modules.dep", "schematic"];
/// A limit in bytes, above the size of any inspected file.
const FILE_LIMIT: u64 = 1 << 20;
/// Maximum number of inspected files per folder of a layer.
const FILES_LIMIT: usize = 256;
const SERVICES: &str = "usr/local/etc/containers";
const RUNTIME_PARTS: &str = "etc/cri/conf.d";
const MODULES: [&str; 2] = ["usr/lib/modules", "lib/modules"];
/// The directories with programs.
const PROGRAMS: [&str; 5] =
    ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "usr/local/lib/containers"];
/// Maximum number of inspected files per program directory.
const PROGRAMS_LIMIT: usize = 16;
/// Talos reads the file in `etc`; packages may leave another one in `usr/lib`.
const OS_RELEASES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// The contents of an image that determine the capabilities of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The system extensions in stacking order, without the pseudo-extensions `modules.dep` and
    /// `schematic`.
    pub extensions: Vec<Extension>,
    /// The extension services, by ID.
    pub services: Vec<ExtensionService>,
    /// The names of the containerd runtime handlers that the image adds.
    pub runtime_handlers: Vec<String>,
    /// The names of the kernel modules that extensions add to the root file system.
    pub kernel_modules: Vec<String>,
    /// The OS name in `os-release`, or `None` if it has no name.
    pub node_version: Option<String>,
    /// Programs for other architectures than arm64, each with its layer and architecture.
    #[serde(default)]
    pub foreign: Vec<String>,
}

/// A service from an extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionService {
    /// The service ID on the node: `ext-` and the name.
    pub id: String,
    /// The extension name, or the layer name if `extensions.yaml` does not name an extension for the layer.
    pub extension: String,
    /// The dependencies as text: `service cri`, `path /dev/x`, `network addresses`, `time`,
    /// `configuration`.
    pub depends: Vec<String>,
    /// True if the service waits for an `ExtensionServiceConfig` document.
    pub needs_configuration: bool,
    /// Mounts that keep the service from starting on Talos: source and destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub impossible_mounts: Vec<String>,
}

/// The reason a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The squashfs file is damaged.
    #[error("layer {layer}, {source}")]
    Layer {
        /// The layer name.
        layer: String,
        source: SquashfsError,
    },
    /// A file in the layer is invalid.
    #[error("layer {layer}, {entry}: {problem}")]
    Entry {
        /// The layer name.
        layer: String,
        /// The file in the layer.
        entry: String,
        problem: String,
    },
}

/// The contents of one layer.
#[derive(Debug, Default)]
pub struct LayerContents {
    layer: String,
    services: BTreeMap<String, ServiceSpec>,
    handlers: BTreeMap<String, Vec<String>>,
    modules: BTreeSet<String>,
    node_version: Option<String>,
    foreign: Vec<String>,
}

impl LayerContents {
    /// Reads the layer `layer` from the squashfs file `input`.
    ///
    /// # Errors
    /// Returns an error if the squashfs file is damaged, or if a file in the layer is invalid.
    pub fn read(layer: &str, input: impl Read + Seek) -> Result<Self, ContentsError> {
        let damaged = |source| ContentsError::Layer { layer: layer.to_owned(), source };
        let mut squashfs = Squashfs::open(input).map_err(damaged)?;
        let mut found = Self { layer: layer.to_owned(), ..Self::default() };
        for (entry, text) in files(&mut squashfs, layer, SERVICES, ".yaml")? {
            let spec = ServiceSpec::parse(&text);
            found.services.insert(entry.clone(), spec.map_err(|problem| wrong(layer, &entry, problem))?);
        }
        for (entry, text) in files(&mut squashfs, layer, RUNTIME_PARTS, ".part")? {
            let config = RuntimeConfig::parse(&text).map_err(|problem| wrong(layer, &entry, problem))?;
            let names = config.handlers.into_iter().map(|handler| handler.name).collect();
            found.handlers.insert(entry, names);
        }
        for folder in MODULES {
            let files = squashfs.files_under(folder).map_err(damaged)?;
            found.modules.extend(files.iter().filter_map(|(path, _)| module_name(path)));
        }
        for folder in PROGRAMS {
            for (path, file) in squashfs.files_under(folder).map_err(damaged)?.iter().take(PROGRAMS_LIMIT) {
                let head = ElfHead::parse(&squashfs.head(file).map_err(damaged)?);
                if let Some(head) = head.filter(|head| !head.is_arm64()) {
                    let machine = head.machine_name();
                    found.foreign.push(format!("{layer}: {path} is a program for {machine}"));
                }
            }
        }
        for path in OS_RELEASES {
            if let Some(text) = squashfs.read_path(path, FILE_LIMIT).map_err(damaged)? {
                found.node_version = node_version(&String::from_utf8_lossy(&text));
                break;
            }
        }
        Ok(found)
    }
}

impl Contents {
    /// Combines the contents of the layers. `layers` has the same order as the layer names in `extensions`.
    pub(super) fn of(extensions: &[Extension], layers: &[LayerContents]) -> Self {
        let extension_of = |layer: &str| extensions.iter().find(|extension| extension.layer == layer);
        let order = |layer: &LayerContents| extensions.iter().position(|e| e.layer == layer.layer);
        let mut stacked: Vec<_> = layers.iter().collect();
        stacked.sort_by_key(|layer| (layer.layer != ROOT_LAYER, order(layer)));
        let (mut services, mut handlers) = (BTreeMap::new(), BTreeMap::new());
        for layer in &stacked {
            for (path, spec) in &layer.services {
                let extension = extension_of(&layer.layer).map_or(&layer.layer, |e| &e.name);
                services.insert(path, spec.service(extension));
            }
            handlers.extend(&layer.handlers);
        }
        let mut services: Vec<_> = services.into_values().collect();
        services.sort_by(|one: &ExtensionService, other| one.id.cmp(&other.id));
        let handlers: BTreeSet<_> = handlers.into_values().flatten().cloned().collect();
        let (root, added): (Vec<_>, Vec<_>) =
            stacked.into_iter().partition(|layer| layer.layer == ROOT_LAYER);
        let present: BTreeSet<_> = root.iter().flat_map(|layer| &layer.modules).collect();
        let modules: BTreeSet<_> =
            added.iter().flat_map(|layer| &layer.modules).filter(|name| !present.contains(name)).collect();
        let real = |extension: &&Extension| !PSEUDO_EXTENSIONS.contains(&extension.name.as_str());
        Self {
            extensions: extensions.iter().filter(real).cloned().collect(),
            services,
            runtime_handlers: handlers.into_iter().collect(),
            kernel_modules: modules.into_iter().cloned().collect(),
            foreign: layers.iter().flat_map(|layer| layer.foreign.clone()).collect(),
            node_version: root.iter().find_map(|layer| layer.node_version.clone()),
        }
    }
}

/// Returns the files in a folder of a layer with names that end with `ending`, with their contents.
fn files(
    squashfs: &mut Squashfs<impl Read + Seek>,
    layer: &str,
    folder: &str,
    ending: &str,
) -> Result<Vec<(String, Vec<u8>)>, ContentsError> {
    let damaged = |source| ContentsError::Layer { layer: layer.to_owned(), source };
    let mut found = squashfs.files_under(folder).map_err(damaged)?;
    found.retain(|(path, _)| {
        let name = path.strip_prefix(folder).and_then(|name| name.strip_prefix('/'));
        name.is_some_and(|name| name.ends_with(ending) && !name.contains('/'))
    });
    if found.len() > FILES_LIMIT {
        let problem = format!("{} files {ending}; no node image has more than {FILES_LIMIT}", found.len());
        return Err(wrong(layer, folder, problem));
    }
    let read = |(path, file)| squashfs.read(&file, FILE_LIMIT).map(|text| (path, text)).map_err(damaged);
    found.into_iter().map(read).collect()
}

fn wrong(layer: &str, entry: &str, problem: String) -> ContentsError {
    ContentsError::Entry { layer: layer.to_owned(), entry: entry.to_owned(), problem: plain(&problem).into() }
}

/// Returns `drbd` for `…/drbd.ko`, compressed or uncompressed.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name = [".xz", ".zst", ".gz"].iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
    name.strip_suffix(".ko").map(str::to_owned)
}

/// Returns `PRETTY_NAME` from an `os-release` file (os-release(5)), otherwise `NAME` and `VERSION`.
fn node_version(os_release: &str) -> Option<String> {
    let value = |key: &str| {
        let mut lines = os_release.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(name, _)| name.trim() == key)?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    value("PRETTY_NAME").or_else(|| match (value("NAME"), value("VERSION")) {
        (Some(name), Some(version)) => Some(format!("{name} {version}")),
        (_, version) => version,
    })
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
