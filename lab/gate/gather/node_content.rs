//! Reads the files of a node image.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use lab_image::{
    AssetError, DiskCache, DiskImageError, ElfHead, FoundFile, InspectError, Inspection, KernelError,
    KernelModule, MODULE_LIMIT, RuntimeConfig, ServiceSpec, StackedRoot, built_in_aliases, built_in_modules,
    containerd_major, listed_modules, module_of,
};
use lab_model::{Digest, Origin};

use super::board::board_facts;
use crate::evidence::{
    Failure, FailureKind, ForeignFile, ModuleFile, ModuleSet, NodeFacts, RuntimeFile, ServiceFile,
};

/// The largest containerd program, in bytes.
const PROGRAM_LIMIT: u64 = 256 << 20;
/// The largest list of modules and the largest configuration file, in bytes.
const LIST_LIMIT: u64 = 16 << 20;
const TEXT_LIMIT: u64 = 1 << 20;
/// Where nodes look for programs (Talos pkg/machinery/constants, `PATH`).
const SEARCH: [&str; 6] = ["sbin", "bin", "usr/sbin", "usr/bin", "usr/local/sbin", "usr/local/bin"];
/// The directories of containerd's configuration.
const RUNTIME_DIRECTORIES: [&str; 2] = ["etc/cri", "etc/containerd"];
/// The directories of extension services: their specs and their roots.
const SERVICES: &str = "usr/local/etc/containers";
const SERVICE_ROOTS: &str = "usr/local/lib/containers";
/// Where Talos can create the source of a mount: file systems in memory, the disk of the node, and overlays (Talos
/// pkg/machinery/constants, `Overlays`).
const WRITABLE: [&str; 11] = [
    "/var",
    "/run",
    "/dev",
    "/proc",
    "/sys",
    "/tmp",
    "/system",
    "/etc/cni",
    "/etc/kubernetes",
    "/usr/libexec/kubernetes",
    "/opt",
];

/// What was found in layers that several images have.
#[derive(Default)]
pub(crate) struct Memo {
    layers: HashMap<LayerKey, Arc<LayerLook>>,
}

/// The kernel, the layer, and the files of the layer that no other layer replaces.
type LayerKey = (Digest, Digest, Digest);

/// What was found in the files of one layer.
struct LayerLook {
    modules: Vec<(String, Result<KernelModule, String>)>,
    programs: Vec<(String, ElfHead)>,
}

/// Reads the node image at a path. For the image of a board, `board` is a directory for temporary files.
pub(crate) fn node_facts(
    path: &Path,
    origin: Origin,
    disks: &DiskCache,
    board: Option<&Path>,
    memo: &mut Memo,
) -> Result<NodeFacts, Failure> {
    let damaged = |cause: String| Failure { kind: FailureKind::Damaged, cause };
    let inspection = Inspection::of(path, disks).map_err(|error| Failure {
        kind: if is_foreign(&error) { FailureKind::Platform } else { FailureKind::Damaged },
        cause: error.to_string(),
    })?;
    let mut root = StackedRoot::of(&inspection).map_err(|error| damaged(error.to_string()))?;
    let look = Look { inspection: &inspection, root: &mut root };
    let found = look.all(memo).map_err(|error| damaged(error.to_string()))?;
    let board = board.map(|scratch| board_facts(path, scratch)).transpose().map_err(damaged)?;
    Ok(NodeFacts {
        origin,
        modules: Arc::new(found.modules),
        native: found.native,
        foreign: found.foreign,
        containerd: found.containerd,
        runtimes: found.runtimes,
        programs: found.programs,
        services: found.services,
        board,
        inspection,
    })
}

/// Whether an image is for another architecture.
fn is_foreign(error: &InspectError) -> bool {
    matches!(
        error,
        InspectError::Asset(
            AssetError::Kernel { source: KernelError::Architecture { .. }, .. }
                | AssetError::Disk {
                    source: DiskImageError::Architecture { .. }
                        | DiskImageError::Unified { source: KernelError::Architecture { .. }, .. },
                    ..
                }
        )
    )
}

struct Look<'a> {
    inspection: &'a Inspection,
    root: &'a mut StackedRoot,
}

#[derive(Default)]
struct Found {
    modules: ModuleSet,
    native: usize,
    foreign: Vec<ForeignFile>,
    containerd: Option<(u32, String)>,
    runtimes: Vec<RuntimeFile>,
    programs: BTreeMap<String, Option<Option<String>>>,
    services: Vec<ServiceFile>,
}

type Read<T> = Result<T, lab_image::ContentsError>;

impl Look<'_> {
    fn all(mut self, memo: &mut Memo) -> Read<Found> {
        let mut found = Found::default();
        for (layer, look) in self.layers(memo)? {
            for (path, module) in &look.modules {
                let (layer, path, module) = (layer.clone(), path.clone(), module.clone());
                found.modules.files.push(ModuleFile { layer, path, module });
            }
            for (path, head) in
                look.programs.iter().filter(|(_, head)| head.is_program && !head.is_bytecode())
            {
                if head.is_arm64() {
                    found.native += 1;
                    continue;
                }
                let (layer, path, machine) = (layer.clone(), path.clone(), head.machine_name());
                found.foreign.push(ForeignFile { layer, path, machine });
            }
        }
        self.module_lists(&mut found.modules)?;
        found.containerd = self.containerd()?;
        found.runtimes = self.runtimes()?;
        found.programs = self.programs(&found.runtimes)?;
        found.services = self.services()?;
        Ok(found)
    }

    /// Looks at the modules and programs of each layer.
    fn layers(&mut self, memo: &mut Memo) -> Read<Vec<(String, Arc<LayerLook>)>> {
        let mut by_layer: BTreeMap<String, Vec<FoundFile>> = BTreeMap::new();
        for file in self.root.files_under("") {
            if file.is_executable || module_of(&file.path).is_some() {
                by_layer.entry(file.layer.clone()).or_default().push(file);
            }
        }
        let mut looks = Vec::new();
        for (layer, files) in by_layer {
            let Some(about) = self.inspection.layer(&layer) else { continue };
            let names = files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join("\n");
            let names = Digest::of_bytes(names.as_bytes());
            let key = (self.inspection.kernel_digest.clone(), about.digest.clone(), names);
            let look = match memo.layers.get(&key) {
                Some(look) => look.clone(),
                None => {
                    let look = Arc::new(self.layer(&files)?);
                    memo.layers.insert(key, look.clone());
                    look
                }
            };
            looks.push((layer, look));
        }
        Ok(looks)
    }

    fn layer(&mut self, files: &[FoundFile]) -> Read<LayerLook> {
        let mut look = LayerLook { modules: Vec::new(), programs: Vec::new() };
        for file in files {
            let in_modules =
                file.path.starts_with("usr/lib/modules/") || file.path.starts_with("lib/modules/");
            if in_modules && module_of(&file.path).is_some() {
                let module = if file.bytes > MODULE_LIMIT {
                    Err(format!("it has {} bytes; no module has", file.bytes))
                } else {
                    let bytes = self.root.read(file, MODULE_LIMIT)?;
                    KernelModule::read(&file.path, &bytes, &self.inspection.kernel.keys)
                };
                look.modules.push((file.path.clone(), module));
            } else if let Some(head) = ElfHead::parse(&self.root.head(file)?) {
                look.programs.push((file.path.clone(), head));
            }
        }
        Ok(look)
    }

    fn module_lists(&mut self, modules: &mut ModuleSet) -> Read<()> {
        let Some(release) = self.inspection.kernel.release.clone() else { return Ok(()) };
        let directory = ["usr/lib/modules", "lib/modules"]
            .map(|directory| format!("{directory}/{release}"))
            .into_iter()
            .find(|directory| self.root.has(directory));
        let Some(directory) = directory else { return Ok(()) };
        let mut list = |name: &str| match self.root.file(&format!("{directory}/{name}")) {
            Some(file) => self.root.read(&file, LIST_LIMIT).map(Some),
            None => Ok(None),
        };
        modules.listed = list("modules.dep")?.map(|text| listed_modules(&text));
        modules.built_in = list("modules.builtin")?.map(|text| built_in_modules(&text));
        modules.built_in_aliases =
            list("modules.builtin.modinfo")?.map(|text| built_in_aliases(&text)).unwrap_or_default();
        Ok(())
    }

    fn named(&self, name: &str) -> Option<FoundFile> {
        if name.contains('/') {
            return self.root.file(name);
        }
        SEARCH.iter().find_map(|directory| self.root.file(&format!("{directory}/{name}")))
    }

    fn containerd(&mut self) -> Read<Option<(u32, String)>> {
        let Some(file) = self.named("containerd") else { return Ok(None) };
        let program = self.root.read(&file, PROGRAM_LIMIT)?;
        Ok(containerd_major(&program).map(|major| (major, file.path)))
    }

    fn runtimes(&mut self) -> Read<Vec<RuntimeFile>> {
        let mut found = Vec::new();
        for directory in RUNTIME_DIRECTORIES {
            for file in self.root.files_under(directory) {
                if file.path.ends_with(".toml") || file.path.ends_with(".part") {
                    let config = RuntimeConfig::parse(&self.root.read(&file, TEXT_LIMIT)?);
                    found.push(RuntimeFile { layer: file.layer, path: file.path, config });
                }
            }
        }
        Ok(found)
    }

    fn programs(&mut self, runtimes: &[RuntimeFile]) -> Read<BTreeMap<String, Option<Option<String>>>> {
        let handlers =
            runtimes.iter().filter_map(|file| file.config.as_ref().ok()).flat_map(|config| &config.handlers);
        let names = handlers.flat_map(|handler| [handler.shim(), handler.binary.clone()]).flatten();
        let mut found = BTreeMap::new();
        for name in names {
            let machine = match self.named(&name) {
                None => None,
                Some(file) => Some(ElfHead::parse(&self.root.head(&file)?).map(ElfHead::machine_name)),
            };
            found.insert(name, machine);
        }
        Ok(found)
    }

    fn services(&mut self) -> Read<Vec<ServiceFile>> {
        let mut found = Vec::new();
        for file in self.root.files_under(SERVICES) {
            if !file.path.ends_with(".yaml") {
                continue;
            }
            // The inspection has read the same files and reports a wrong one.
            let Ok(spec) = ServiceSpec::parse(&self.root.read(&file, TEXT_LIMIT)?) else { continue };
            let files = spec.files();
            let directory = format!("{SERVICE_ROOTS}/{}", files.name);
            let program = files
                .entrypoint
                .as_ref()
                .and_then(|entrypoint| self.program(&directory, entrypoint, &files.mounts));
            let missing = files.mounts.iter().map(|(source, _)| source);
            let missing = missing.filter(|source| !is_writable(source) && !self.root.has(source)).cloned();
            let impossible_mounts = spec.service("").impossible_mounts.into_iter().chain(missing).collect();
            found.push(ServiceFile {
                has_root: self.root.has(&directory),
                layer: file.layer,
                path: file.path,
                program,
                impossible_mounts,
                files,
            });
        }
        Ok(found)
    }

    /// Finds the program of a service: in its root, or in what is mounted into it.
    fn program(&self, directory: &str, entrypoint: &str, mounts: &[(String, String)]) -> Option<String> {
        let paths: Vec<String> = if entrypoint.contains('/') {
            vec![entrypoint.to_owned()]
        } else {
            SEARCH.iter().map(|directory| format!("{directory}/{entrypoint}")).collect()
        };
        let within = |path: &String| self.root.file_in(directory, path).map(|file| file.path);
        let mounted = |path: &String| {
            mounts.iter().find_map(|(source, destination)| {
                let rest = path.strip_prefix(destination.trim_end_matches('/'))?;
                self.root.file(&format!("{source}{rest}")).map(|file| file.path)
            })
        };
        paths.iter().find_map(within).or_else(|| paths.iter().find_map(mounted))
    }
}

fn is_writable(source: &str) -> bool {
    let below = |directory: &str| {
        source.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    WRITABLE.into_iter().any(below)
}
