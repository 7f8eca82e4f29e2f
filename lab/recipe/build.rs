//! The complete recipe: all steps and their dependencies.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use lab_image::cpio_archive::{self, CpioEntry};
use lab_model::workloads::{ECHO_IMAGE, WASM_IMAGE};

use super::{
    debian,
    go_program::GoProgram,
    kernel_modules::KernelModules,
    layer::{self, FinishedLayer, LayerContent},
    listing::Listing,
    oci_layout::{self, WorkloadImage},
    report::{BuildReport, checksums},
    root_tree::{RootTree, pack},
    step::{Key, RecipeError, Workshop, file, remove},
    variants::{ExtensionManifest, Variants},
};

/// Version of Kubernetes in `images/kubernetes/go.mod`.
pub const KUBERNETES_VERSION: &str = "v1.34.2";
/// Version of CoreDNS in `images/coredns/go.mod`. It is the default for machine configs without
/// `cluster.coreDNS.image` (machinery v1.13.9, `constants.DefaultCoreDNSVersion`).
const COREDNS_VERSION: &str = "v1.14.6";

/// Build options.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The `images` directory of the sources.
    pub sources: PathBuf,
    /// The output directory for the images, e.g. `target/images`.
    pub output: PathBuf,
    /// Names of the node image variants to build. Empty means all.
    pub variants: Vec<String>,
}

/// Builds all outdated outputs and passes each progress line to `say`. Concurrent builds in one directory
/// wait for each other.
///
/// # Errors
/// See [`RecipeError`]. A failed build leaves no partial outputs.
pub fn build(options: &BuildOptions, say: impl Fn(&str) + 'static) -> Result<(), RecipeError> {
    let work = options.output.join("work");
    fs::create_dir_all(&work).map_err(file("create", &work))?;
    let _lock = lock(&work.join("lock"), &say)?;
    let workshop = Workshop::new(&work, Box::new(say))?;
    Recipe { sources: &options.sources, workshop }.build(options)
}

fn lock(path: &Path, say: impl Fn(&str)) -> Result<nix::fcntl::Flock<fs::File>, RecipeError> {
    use nix::fcntl::{Flock, FlockArg};
    let opened = fs::File::create(path).map_err(file("open", path))?;
    let opened = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((opened, _)) => opened,
    };
    say("another build is at work here; waiting for it");
    Flock::lock(opened, FlockArg::LockExclusive).map_err(|(_, errno)| RecipeError::File {
        action: "lock",
        path: path.to_owned(),
        source: errno.into(),
    })
}

struct Recipe<'a> {
    sources: &'a Path,
    workshop: Workshop,
}

/// The output of a step, and its key for dependent steps.
struct Built {
    key: Key,
    path: PathBuf,
}

/// A built extension.
struct BuiltLayer {
    built: Built,
    manifest: ExtensionManifest,
    /// The programs of the extension, for the report.
    programs: Vec<PathBuf>,
}

/// Inputs that all variants share.
struct Base<'a> {
    debian: &'a Built,
    kubernetes: &'a Built,
    machined: &'a Built,
    init: &'a Built,
    root: &'a Built,
}

impl Recipe<'_> {
    fn build(&self, options: &BuildOptions) -> Result<(), RecipeError> {
        let output = &options.output;
        let variants = Variants::read(&self.sources.join("variants.yaml"))?.only(&options.variants)?;
        let debian = self.debian()?;
        let kubernetes = self.go("kubernetes", "kubernetes", ".", &kubernetes_variables())?;
        let init = self.go("init", "node", "./cmd/init", &[])?;
        let machined = self.go("machined", "node", "./cmd/machined", &[])?;
        let pause = self.go("pause", "workloads", "./pause", &[])?;
        let echo = self.go("echo", "workloads", "./echo", &[])?;
        let podnet = self.go("podnet", "node", "./cmd/podnet", &[])?;
        let answer = self.wasm("answer.wasm", "workloads/wasm/answer.wat")?;
        let coredns = self.go("coredns", "coredns", ".", &[])?;
        let root = self.root(&debian, &kubernetes, &machined)?;
        let extensions = self.extensions(&debian, &variants)?;
        let base =
            Base { debian: &debian, kubernetes: &kubernetes, machined: &machined, init: &init, root: &root };
        let workloads = self.workloads(&[
            ("registry.k8s.io/pause:3.10", "pause", &pause),
            (&format!("registry.k8s.io/coredns/coredns:{COREDNS_VERSION}"), "coredns", &coredns),
            (ECHO_IMAGE, "echo", &echo),
            (WASM_IMAGE, "answer.wasm", &answer),
            ("lab.local/podnet:v1", "podnet", &podnet),
        ])?;
        for (name, list) in &variants.variants {
            let layers = self.layers(&debian, list, &variants, &extensions)?;
            let image = self.image(name, &base, &layers)?;
            publish(&image.path, &output.join(name))?;
        }
        publish(&workloads.path, &output.join("workloads"))
    }

    fn list(&self, name: &str) -> PathBuf {
        self.sources.join("rootfs").join(name)
    }

    fn debian(&self) -> Result<Built, RecipeError> {
        let packages = self.list("packages");
        let key = debian::key(&packages)?;
        let path = self.workshop.step("debian", &key, |to| debian::make(&packages, to))?;
        Ok(Built { key, path })
    }

    fn go(
        &self,
        name: &str,
        module: &str,
        package: &str,
        variables: &[String],
    ) -> Result<Built, RecipeError> {
        let mut tags = vec!["osusergo", "netgo", "grpcnotrace"];
        // The file `tags` beside the module's go.mod lists build tags that omit unused features.
        let list = self.sources.join(module).join("tags");
        let own = if list.exists() { Some(Listing::read(&list)?) } else { None };
        if let Some(own) = &own {
            tags.extend(own.names()?);
        }
        let program = GoProgram {
            module: self.sources.join(module),
            package: package.to_owned(),
            tags: tags.join(","),
            variables: variables.to_vec(),
        };
        let key = program.key(name)?;
        let path = self.workshop.step(name, &key, |to| program.make(to))?;
        Ok(Built { key, path })
    }

    /// Compiles a WebAssembly module from its text format.
    fn wasm(&self, name: &str, source: &str) -> Result<Built, RecipeError> {
        let source = self.sources.join(source);
        let text = fs::read_to_string(&source).map_err(file("read", &source))?;
        let key = Key::of(name, 1).text(&text).done();
        let path = self.workshop.step(name, &key, |to| {
            let module = wat::parse_str(&text)
                .map_err(|error| RecipeError::Missing(format!("{}: {error}", source.display())))?;
            fs::write(to, module).map_err(file("write", to))
        })?;
        Ok(Built { key, path })
    }

    fn root(&self, debian: &Built, kubernetes: &Built, machined: &Built) -> Result<Built, RecipeError> {
        let key = Key::of("rootfs.sqsh", 2)
            .tree(&self.sources.join("rootfs"))?
            .after(&debian.key)
            .after(&kubernetes.key)
            .after(&machined.key)
            .done();
        let path = self.workshop.step("rootfs.sqsh", &key, |to| {
            let staging = to.with_file_name(".partial-root");
            remove(&staging)?;
            let mut tree = RootTree::new(&debian.path, &staging)?;
            tree.fill_from_lists(&self.sources.join("rootfs"))?;
            tree.install("usr/bin/kubernetes", &kubernetes.path)?;
            tree.install("usr/sbin/init", &machined.path)?;
            let list = Listing::read(&self.list("modules"))?;
            let names: Vec<_> = list.pairs()?.into_iter().map(|(_, name)| name).collect();
            tree.install_modules(&KernelModules::open(&debian.path)?, &names)?;
            pack(&staging, to)?;
            remove(&staging)
        })?;
        Ok(Built { key, path })
    }

    /// Builds the layer of every extension.
    fn extensions(
        &self,
        debian: &Built,
        variants: &Variants,
    ) -> Result<BTreeMap<String, BuiltLayer>, RecipeError> {
        let modules = KernelModules::open(&debian.path)?;
        let mut built = BTreeMap::new();
        for (name, ingredients) in &variants.extensions {
            let folder = self.sources.join(name);
            let manifest = ExtensionManifest::read(&folder.join("manifest.yaml"), name)?;
            let mut programs = Vec::new();
            for (path, program) in &ingredients.programs {
                let step = path.rsplit('/').next().unwrap_or(path);
                programs.push((
                    path.as_str(),
                    self.go(step, &program.module, &program.package, &program.variables)?,
                ));
            }
            let mut key = Key::of(name, 1).tree(&folder)?.after(&debian.key);
            for module in &ingredients.kernel_modules {
                key = key.text(module);
            }
            for (path, program) in &programs {
                key = key.text(path).after(&program.key);
            }
            let key = key.done();
            let content = LayerContent {
                folder: &folder,
                programs: &programs.iter().map(|(path, built)| (*path, &*built.path)).collect::<Vec<_>>(),
                kernel_modules: &ingredients.kernel_modules,
            };
            let path = self.workshop.step(&format!("{name}.sqsh"), &key, |to| content.make(&modules, to))?;
            let programs = programs.into_iter().map(|(_, program)| program.path).collect();
            built.insert(name.clone(), BuiltLayer { built: Built { key, path }, manifest, programs });
        }
        Ok(built)
    }

    /// Returns the layers of a variant, lowest first. If an extension contains kernel modules, the module
    /// index is the top layer.
    fn layers(
        &self,
        debian: &Built,
        names: &[String],
        variants: &Variants,
        extensions: &BTreeMap<String, BuiltLayer>,
    ) -> Result<Vec<(Key, FinishedLayer, Vec<PathBuf>)>, RecipeError> {
        let mut layers = Vec::new();
        let mut kernel_modules = Vec::new();
        for name in names {
            let (Some(layer), Some(ingredients)) = (extensions.get(name), variants.extensions.get(name))
            else {
                continue; // rejected when the file was parsed
            };
            let metadata = layer.manifest.metadata.clone();
            let path = layer.built.path.clone();
            layers.push((layer.built.key.clone(), FinishedLayer { metadata, path }, layer.programs.clone()));
            kernel_modules.extend(ingredients.kernel_modules.iter().map(String::as_str));
        }
        if kernel_modules.is_empty() {
            return Ok(layers);
        }
        let list = Listing::read(&self.list("modules"))?;
        let mut all: Vec<_> = list.pairs()?.into_iter().map(|(_, name)| name).collect();
        all.extend(kernel_modules);
        let key =
            all.iter().fold(Key::of("modules.dep", 1).after(&debian.key), |key, name| key.text(name)).done();
        let modules = KernelModules::open(&debian.path)?;
        let path = self.workshop.step(&format!("modules.dep-{}", key.short()), &key, |to| {
            layer::make_module_index(&modules, &all, to)
        })?;
        layers.push((
            key,
            FinishedLayer { metadata: layer::module_index_metadata(&modules.version), path },
            Vec::new(),
        ));
        Ok(layers)
    }

    /// Builds the image of one variant in the layout of Talos assets.
    fn image(
        &self,
        name: &str,
        base: &Base<'_>,
        layers: &[(Key, FinishedLayer, Vec<PathBuf>)],
    ) -> Result<Built, RecipeError> {
        let key = Key::of(name, 4).after(&base.debian.key).after(&base.init.key).after(&base.root.key);
        let key = layers.iter().fold(key, |key, (layer, ..)| key.after(layer)).done();
        let path = self.workshop.step(name, &key, |to| {
            let boot = to.join("boot");
            fs::create_dir_all(&boot).map_err(file("create", &boot))?;
            let modules = KernelModules::open(&base.debian.path)?;
            let kernel = base.debian.path.join(format!("boot/vmlinuz-{}", modules.version));
            fs::copy(&kernel, boot.join("vmlinuz")).map_err(file("copy", &kernel))?;
            self.initramfs(&modules, base, layers, &boot.join("initramfs.xz"))?;
            checksums(to)?;
            let mut parts = vec![boot.join("vmlinuz"), boot.join("initramfs.xz"), base.root.path.clone()];
            parts.extend(layers.iter().map(|(_, layer, _)| layer.path.clone()));
            let extensions = layers.iter().map(|(_, layer, _)| &layer.metadata);
            let mut programs: Vec<(String, &Path)> = vec![
                ("kubernetes".to_owned(), &base.kubernetes.path),
                ("machined".to_owned(), &base.machined.path),
                ("init".to_owned(), &base.init.path),
            ];
            for path in layers.iter().flat_map(|(.., programs)| programs) {
                programs.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
            }
            BuildReport {
                kernel: &modules.version,
                kubernetes: KUBERNETES_VERSION,
                extensions: &extensions
                    .filter(|metadata| metadata.name != layer::MODULE_INDEX)
                    .map(|metadata| format!("{} {}", metadata.name, metadata.version))
                    .collect::<Vec<_>>(),
                parts: &parts,
                packages: &debian::versions(&base.debian.path)?,
                programs: &programs.iter().map(|(name, path)| (name.as_str(), *path)).collect::<Vec<_>>(),
            }
            .write(to)
        })?;
        Ok(Built { key, path })
    }

    /// Builds the initramfs. The archive has Talos's file name, but its content is zstd, which the host
    /// unpacks before boot.
    fn initramfs(
        &self,
        modules: &KernelModules,
        base: &Base<'_>,
        layers: &[(Key, FinishedLayer, Vec<PathBuf>)],
        to: &Path,
    ) -> Result<(), RecipeError> {
        let list = Listing::read(&self.list("modules"))?;
        let early: Vec<_> =
            list.pairs()?.into_iter().filter(|(when, _)| *when == "early").map(|(_, name)| name).collect();
        let program = fs::read(&base.init.path).map_err(file("read", &base.init.path))?;
        let mut entries = vec![
            CpioEntry::directory("dev"),
            CpioEntry::directory("modules"),
            CpioEntry::directory("proc"),
            CpioEntry::directory("root"),
            CpioEntry::directory("sys"),
            CpioEntry::program("init", program),
        ];
        let mut order = String::new();
        for module in modules.with_dependencies(&early)? {
            let name = format!("modules/{}", module.path.file_name().unwrap_or_default().to_string_lossy());
            order.push_str(&format!("/{name}\n"));
            entries.push(CpioEntry::file(&name, module.content));
        }
        entries.push(CpioEntry::file("modules.load", order.into_bytes()));
        let stacked: Vec<_> = layers.iter().map(|(_, layer, _)| layer).collect();
        entries.push(CpioEntry::file("extensions.yaml", layer::extensions_yaml(&stacked)?.into_bytes()));
        for (index, layer) in stacked.iter().enumerate() {
            entries.push(host_file(&format!("{index}.sqsh"), &layer.path)?);
        }
        entries.push(host_file("rootfs.sqsh", &base.root.path)?);
        let output = io::BufWriter::new(fs::File::create(to).map_err(file("create", to))?);
        let mut encoder = zstd::Encoder::new(output, 1).map_err(file("write", to))?;
        cpio_archive::write(&entries, &mut encoder).map_err(file("write", to))?;
        encoder.finish().and_then(|mut output| output.flush()).map_err(file("write", to))
    }

    fn workloads(&self, images: &[(&str, &'static str, &Built)]) -> Result<Built, RecipeError> {
        // Spin serves the application of this file; other runtimes run the entry point.
        let manifest = self.sources.join("workloads/wasm/spin.toml");
        let manifest = fs::read_to_string(&manifest).map_err(file("read", &manifest))?;
        let key = images
            .iter()
            .fold(Key::of("workloads", 2), |key, (reference, _, built)| key.text(reference).after(&built.key))
            .text(&manifest)
            .done();
        let path = self.workshop.step("workloads", &key, |to| {
            let images: Vec<_> = images
                .iter()
                .map(|(reference, program, built)| WorkloadImage {
                    reference: (*reference).to_owned(),
                    program,
                    file: built.path.clone(),
                    beside: match *reference {
                        WASM_IMAGE => vec![("spin.toml", manifest.clone())],
                        _ => Vec::new(),
                    },
                })
                .collect();
            oci_layout::write(&images, to)
        })?;
        Ok(Built { key, path })
    }
}

/// Sets the version that `kubelet --version` and the API server's `/version` report.
fn kubernetes_variables() -> Vec<String> {
    let package = "k8s.io/component-base/version";
    vec![
        format!("{package}.gitVersion={KUBERNETES_VERSION}"),
        format!("{package}.gitMajor=1"),
        format!("{package}.gitMinor=34"),
        format!("{package}.gitTreeState=clean"),
    ]
}

/// Links `to` to the built directory `from`. Replaces an older link atomically.
fn publish(from: &Path, to: &Path) -> Result<(), RecipeError> {
    let target = Path::new("work").join(from.file_name().unwrap_or_default());
    if fs::read_link(to).is_ok_and(|existing| existing == target) {
        return Ok(());
    }
    let fresh = to.with_extension("new");
    remove(&fresh)?;
    std::os::unix::fs::symlink(&target, &fresh).map_err(file("link", &fresh))?;
    fs::rename(&fresh, to).map_err(file("link", to))
}

/// Creates an archive entry from a host file without changes.
fn host_file(name: &str, path: &Path) -> Result<CpioEntry, RecipeError> {
    Ok(CpioEntry::file(name, std::fs::read(path).map_err(file("read", path))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go_mod(module: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images").join(module).join("go.mod");
        fs::read_to_string(path).expect("go.mod")
    }

    #[test]
    fn stated_versions_are_those_that_are_compiled() {
        assert!(go_mod("kubernetes").contains(&format!("\tk8s.io/kubernetes {KUBERNETES_VERSION}\n")));
        assert!(go_mod("coredns").contains(&format!("github.com/coredns/coredns {COREDNS_VERSION}\n")));
    }

    #[test]
    fn publishing_twice_leaves_one_link() {
        let directory = tempfile::tempdir().expect("tempdir");
        let to = directory.path().join("compute");
        for _ in 0..2 {
            publish(&directory.path().join("work/compute"), &to).expect("publish");
        }
        assert_eq!(fs::read_link(&to).expect("link"), Path::new("work/compute"));
    }
}
