//! What the layers of an image bring to a node: extension services, runtime handlers, modules.
//!
//! Where things are is Talos' own layout: specs of extension services in
//! `/usr/local/etc/containers` (pkg/machinery/extensions/services), parts of containerd's
//! configuration in `/etc/cri/conf.d`. The layers are stacked as an overlay at boot, therefore a
//! file of a later layer covers one of the same path in an earlier one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek},
};

use object::{
    Endianness,
    elf::{EM_AARCH64, EM_X86_64, FileHeader32, FileHeader64},
    read::elf::FileHeader,
};
use serde::{Deserialize, Serialize};

use super::{
    extensions::Extension,
    plain::plain,
    service_spec::ServiceSpec,
    squashfs::{Squashfs, SquashfsError},
};

/// The layer that is the root file system.
const ROOT_LAYER: &str = "rootfs.sqsh";
/// Entries of `extensions.yaml` that are no extensions: what the image factory adds for itself.
const PSEUDO_EXTENSIONS: [&str; 2] = ["modules.dep", "schematic"];
/// More than any file that is looked into has, in bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// Most files of one folder of a layer that are looked into.
const FILES_LIMIT: usize = 256;
const SERVICES: &str = "usr/local/etc/containers";
const RUNTIME_PARTS: &str = "etc/cri/conf.d";
const MODULES: [&str; 2] = ["usr/lib/modules", "lib/modules"];
/// Where programs are.
const PROGRAMS: [&str; 5] =
    ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "usr/local/lib/containers"];
/// How many files of each of these are looked at.
const PROGRAMS_LIMIT: usize = 16;
const OS_RELEASES: [&str; 2] = ["usr/lib/os-release", "etc/os-release"];

/// What is in an image, as far as it decides what a node of it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The system extensions in the order in which they are stacked, without the entries
    /// `modules.dep` and `schematic`, which are none.
    pub extensions: Vec<Extension>,
    /// The services that the extensions bring, by id.
    pub services: Vec<ExtensionService>,
    /// Names of containerd's runtime handlers that the image adds.
    pub runtime_handlers: Vec<String>,
    /// Names of the kernel modules that the root file system lacks and an extension brings.
    pub kernel_modules: Vec<String>,
    /// The node software, in the words of its `os-release`; nothing when it has none.
    pub node_version: Option<String>,
    /// Programs that are not for arm64, each with its layer and what it is for.
    #[serde(default)]
    pub foreign: Vec<String>,
}

/// A service that an extension brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionService {
    /// Its id on the node, `ext-` and its name.
    pub id: String,
    /// The extension that brings it; the layer's name when no extension is named for that.
    pub extension: String,
    /// What it waits for, in words: `service cri`, `path /dev/x`, `network addresses`, `time`,
    /// `configuration`.
    pub depends: Vec<String>,
    /// Whether it waits for an `ExtensionServiceConfig` document.
    pub needs_configuration: bool,
}

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The squashfs file is damaged.
    #[error("layer {layer}, {source}")]
    Layer {
        /// Which layer.
        layer: String,
        /// Where and what.
        source: SquashfsError,
    },
    /// A file in it is not what it should be.
    #[error("layer {layer}, {entry}: {problem}")]
    Entry {
        /// Which layer.
        layer: String,
        /// Which file of it.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What was found in one layer.
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
    /// Reads the squashfs file `input`, which is the layer `layer`.
    ///
    /// # Errors
    /// When the file is damaged, or a file in it is not what it should be.
    pub fn read(layer: &str, input: impl Read + Seek) -> Result<Self, ContentsError> {
        let damaged = |source| ContentsError::Layer { layer: layer.to_owned(), source };
        let mut squashfs = Squashfs::open(input).map_err(damaged)?;
        let mut found = Self { layer: layer.to_owned(), ..Self::default() };
        for (entry, text) in files(&mut squashfs, layer, SERVICES, ".yaml")? {
            let spec = ServiceSpec::parse(&text);
            found.services.insert(entry.clone(), spec.map_err(|problem| wrong(layer, &entry, problem))?);
        }
        for (entry, text) in files(&mut squashfs, layer, RUNTIME_PARTS, ".part")? {
            let names = runtime_handlers(&text).map_err(|problem| wrong(layer, &entry, problem))?;
            found.handlers.insert(entry, names);
        }
        for folder in MODULES {
            let files = squashfs.files_under(folder).map_err(damaged)?;
            found.modules.extend(files.iter().filter_map(|(path, _)| module_name(path)));
        }
        for folder in PROGRAMS {
            for (path, file) in squashfs.files_under(folder).map_err(damaged)?.iter().take(PROGRAMS_LIMIT) {
                if let Some(machine) = other_machine(&squashfs.head(file).map_err(damaged)?) {
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
    /// Puts together what the layers hold, which are given in the order of their names in
    /// `extensions`.
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

/// The files of a folder of a layer whose names end with `ending`, each with its content.
fn files(
    squashfs: &mut Squashfs<impl Read + Seek>,
    layer: &str,
    folder: &str,
    ending: &str,
) -> Result<Vec<(String, Vec<u8>)>, ContentsError> {
    let damaged = |source| ContentsError::Layer { layer: layer.to_owned(), source };
    let mut found = squashfs.files_under(folder).map_err(damaged)?;
    found.retain(|(path, _)| {
        path.strip_prefix(folder).is_some_and(|name| name.ends_with(ending) && !name[1..].contains('/'))
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

/// For what machine a program is, when it is not arm64. What is no ELF file is no program.
fn other_machine(head: &[u8]) -> Option<String> {
    let machine = machine_of::<FileHeader64<Endianness>>(head);
    match machine.or_else(|| machine_of::<FileHeader32<Endianness>>(head))? {
        EM_AARCH64 => None,
        EM_X86_64 => Some("amd64".to_owned()),
        other => Some(format!("machine type {other}")),
    }
}

fn machine_of<Header: FileHeader>(head: &[u8]) -> Option<u16> {
    let header = Header::parse(head).ok()?;
    Some(header.e_machine(header.endian().ok()?))
}

/// `drbd` of `…/drbd.ko`, compressed or not.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name = [".xz", ".zst", ".gz"].iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
    name.strip_suffix(".ko").map(str::to_owned)
}

/// `NAME` of every `plugins.PLUGIN.containerd.runtimes.NAME` in a part of containerd's
/// configuration.
fn runtime_handlers(text: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let part: toml::Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        format!("not TOML at byte {at}: {}", error.message())
    })?;
    let plugins = part.get("plugins").and_then(toml::Value::as_table);
    let runtimes = plugins
        .into_iter()
        .flat_map(|plugins| plugins.values())
        .filter_map(|plugin| plugin.get("containerd")?.get("runtimes")?.as_table());
    Ok(runtimes.flat_map(|runtimes| runtimes.keys().cloned()).collect())
}

/// `PRETTY_NAME` of an `os-release` (os-release(5)), else `NAME` and `VERSION`.
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
