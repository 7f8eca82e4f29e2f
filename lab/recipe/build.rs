//! The whole recipe: which steps there are and how they hang together.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    cpio_archive::{self, Entry},
    debian,
    go_program::GoProgram,
    kernel_modules::KernelModules,
    listing::Listing,
    oci_layout::{self, WorkloadImage},
    report::{Report, checksums},
    root_tree::RootTree,
    step::{Key, RecipeError, Workshop, file, remove},
};
use crate::kubernetes::ECHO_IMAGE;

/// Version of Kubernetes in `images/kubernetes/go.mod`.
pub const KUBERNETES_VERSION: &str = "v1.34.2";
/// Version of CoreDNS in `images/coredns/go.mod`; the one a machine config means when it names no
/// `cluster.coreDNS.image` (machinery v1.13.9, `constants.DefaultCoreDNSVersion`).
const COREDNS_VERSION: &str = "v1.14.6";

/// What to build and where.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The `images` directory of the sources.
    pub sources: PathBuf,
    /// Where the finished images go, e.g. `target/images`.
    pub output: PathBuf,
}

/// Builds whatever is not up to date; `say` gets one line of progress at a time. Two builds into
/// one directory wait for each other.
///
/// # Errors
/// See [`RecipeError`]; nothing half-made is left in place.
pub fn build(options: &BuildOptions, say: impl Fn(&str) + 'static) -> Result<(), RecipeError> {
    let work = options.output.join("work");
    fs::create_dir_all(&work).map_err(file("create", &work))?;
    let _lock = lock(&work.join("lock"), &say)?;
    let workshop = Workshop::new(&work, Box::new(say))?;
    Recipe { sources: &options.sources, workshop }.build(&options.output)
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

/// A built step: its key, for the steps after it, and its output.
struct Built {
    key: Key,
    path: PathBuf,
}

impl Recipe<'_> {
    fn build(&self, output: &Path) -> Result<(), RecipeError> {
        let debian = self.debian()?;
        let kubernetes = self.go("kubernetes", "kubernetes", ".", &kubernetes_variables())?;
        let init = self.go("init", "node", "./cmd/init", &[])?;
        let machined = self.go("machined", "node", "./cmd/machined", &[])?;
        let pause = self.go("pause", "workloads", "./pause", &[])?;
        let echo = self.go("echo", "workloads", "./echo", &[])?;
        let coredns = self.go("coredns", "coredns", ".", &[])?;
        let root = self.root(&debian, &kubernetes, &machined)?;
        let programs = [("kubernetes", &kubernetes), ("machined", &machined), ("init", &init)];
        let compute = self.image("compute", &debian, &programs, &init, &root)?;
        let workloads = self.workloads(&[
            ("registry.k8s.io/pause:3.10", "pause", &pause),
            (&format!("registry.k8s.io/coredns/coredns:{COREDNS_VERSION}"), "coredns", &coredns),
            (ECHO_IMAGE, "echo", &echo),
        ])?;
        publish(&compute.path, &output.join("compute"))?;
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
        name: &'static str,
        module: &str,
        package: &'static str,
        variables: &[String],
    ) -> Result<Built, RecipeError> {
        let program = GoProgram {
            module: self.sources.join(module),
            package,
            tags: "osusergo,netgo,grpcnotrace",
            variables: variables.to_vec(),
        };
        let key = program.key(name)?;
        let path = self.workshop.step(name, &key, |to| program.make(to))?;
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
            tree.pack(to)?;
            remove(&staging)
        })?;
        Ok(Built { key, path })
    }

    /// One role's image in the layout of Talos assets.
    fn image(
        &self,
        name: &'static str,
        debian: &Built,
        programs: &[(&str, &Built)],
        init: &Built,
        root: &Built,
    ) -> Result<Built, RecipeError> {
        let key = Key::of(name, 2).after(&debian.key).after(&init.key).after(&root.key).done();
        let path = self.workshop.step(name, &key, |to| {
            let boot = to.join("boot");
            fs::create_dir_all(&boot).map_err(file("create", &boot))?;
            let modules = KernelModules::open(&debian.path)?;
            let kernel = debian.path.join(format!("boot/vmlinuz-{}", modules.version));
            fs::copy(&kernel, boot.join("vmlinuz")).map_err(file("copy", &kernel))?;
            self.initramfs(&modules, init, root, &boot.join("initramfs.xz"))?;
            checksums(to)?;
            Report {
                kernel: &modules.version,
                kubernetes: KUBERNETES_VERSION,
                parts: &[boot.join("vmlinuz"), boot.join("initramfs.xz"), root.path.clone()],
                packages: &debian::versions(&debian.path)?,
                programs: &programs.iter().map(|(name, built)| (*name, &*built.path)).collect::<Vec<_>>(),
            }
            .write(to)
        })?;
        Ok(Built { key, path })
    }

    /// The archive keeps Talos's name; its content is zstd, which the host unpacks before boot.
    fn initramfs(
        &self,
        modules: &KernelModules,
        init: &Built,
        root: &Built,
        to: &Path,
    ) -> Result<(), RecipeError> {
        let list = Listing::read(&self.list("modules"))?;
        let early: Vec<_> =
            list.pairs()?.into_iter().filter(|(when, _)| *when == "early").map(|(_, name)| name).collect();
        let program = fs::read(&init.path).map_err(file("read", &init.path))?;
        let mut entries = vec![
            Entry::directory("dev"),
            Entry::directory("modules"),
            Entry::directory("proc"),
            Entry::directory("root"),
            Entry::directory("sys"),
            Entry::program("init", program),
        ];
        let mut order = String::new();
        for module in modules.with_dependencies(&early)? {
            let name = format!("modules/{}", module.path.file_name().unwrap_or_default().to_string_lossy());
            order.push_str(&format!("/{name}\n"));
            entries.push(Entry::file(&name, module.content));
        }
        entries.push(Entry::file("modules.load", order.into_bytes()));
        entries.push(Entry::file("extensions.yaml", b"layers: []\n".to_vec()));
        entries.push(Entry::host_file("rootfs.sqsh", &root.path)?);
        let output = io::BufWriter::new(fs::File::create(to).map_err(file("create", to))?);
        let mut encoder = zstd::Encoder::new(output, 1).map_err(file("write", to))?;
        cpio_archive::write(&entries, &mut encoder).map_err(file("write", to))?;
        encoder.finish().and_then(|mut output| output.flush()).map_err(file("write", to))
    }

    fn workloads(&self, images: &[(&str, &'static str, &Built)]) -> Result<Built, RecipeError> {
        let key = images
            .iter()
            .fold(Key::of("workloads", 1), |key, (reference, _, built)| key.text(reference).after(&built.key))
            .done();
        let path = self.workshop.step("workloads", &key, |to| {
            let images: Vec<_> = images
                .iter()
                .map(|(reference, program, built)| WorkloadImage {
                    reference: (*reference).to_owned(),
                    program,
                    file: built.path.clone(),
                })
                .collect();
            oci_layout::write(&images, to)
        })?;
        Ok(Built { key, path })
    }
}

/// What `kubelet --version` and the API server's `/version` say.
fn kubernetes_variables() -> Vec<String> {
    let package = "k8s.io/component-base/version";
    vec![
        format!("{package}.gitVersion={KUBERNETES_VERSION}"),
        format!("{package}.gitMajor=1"),
        format!("{package}.gitMinor=34"),
        format!("{package}.gitTreeState=clean"),
    ]
}

/// Makes `to` a link to the built directory `from`, replacing an older link in one step.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn go_mod(module: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("images").join(module).join("go.mod");
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
