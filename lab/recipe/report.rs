//! Metadata of a finished image: checksums of the boot files, and a report of the contents.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lab_model::Digest;

use super::step::{RecipeError, file, run, size};

/// The version of a module that was built from a directory.
const DEVEL: &str = "(devel)";

/// Writes `checksums.sha256` into the image directory, in the format of `sha256sum -c`.
pub(super) fn checksums(image: &Path) -> Result<(), RecipeError> {
    let mut text = String::new();
    for name in ["boot/initramfs.xz", "boot/vmlinuz"] {
        let path = image.join(name);
        let digest = fs::File::open(&path).and_then(Digest::of_reader).map_err(file("read", &path))?;
        let _ = writeln!(text, "{}  ./{name}", digest.hex());
    }
    let path = image.join("checksums.sha256");
    fs::write(&path, text).map_err(file("write", &path))
}

/// The content of `validation/build-report.txt`.
pub(super) struct BuildReport<'a> {
    /// Kernel version.
    pub(super) kernel: &'a str,
    /// Kubernetes version.
    pub(super) kubernetes: &'a str,
    /// Name and version of each extension.
    pub(super) extensions: &'a [String],
    /// Files listed with their sizes.
    pub(super) parts: &'a [PathBuf],
    /// `NAME VERSION` of the Debian packages.
    pub(super) packages: &'a [String],
    /// Go programs of the image by name, with the file that contains the module information.
    pub(super) programs: &'a [(&'a str, &'a Path)],
}

impl BuildReport<'_> {
    /// Writes the report into the image directory. The report is written after the checksums, which do
    /// not cover it, as in users' own builds.
    pub(super) fn write(&self, image: &Path) -> Result<(), RecipeError> {
        let mut text = self.head();
        for (name, path) in self.programs {
            let listed = run(Command::new("go").args(["version", "-m"]).arg(path))?;
            text.push_str(&go_program(name, &listed));
        }
        let directory = image.join("validation");
        fs::create_dir_all(&directory).map_err(file("create", &directory))?;
        let path = directory.join("build-report.txt");
        fs::write(&path, text).map_err(file("write", &path))
    }

    fn head(&self) -> String {
        let mut text = format!(
            "reference node image (Talos file layout; not Talos)\narchitecture: arm64\nkernel: {}\n\
             kubernetes: {}\nextensions: {}\n\nsizes in bytes:\n",
            self.kernel,
            self.kubernetes,
            if self.extensions.is_empty() { "none".to_owned() } else { self.extensions.join(", ") }
        );
        for path in self.parts {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(text, "  {name}: {}", size(path));
        }
        text.push_str("\nDebian packages unpacked:\n");
        for package in self.packages {
            let _ = writeln!(text, "  {package}");
        }
        text
    }
}

/// Returns a program's toolchain and modules from the output of `go version -m`: a line `FILE:
/// GOVERSION`, then tab-separated records. `mod` and `dep` records name a module. `=>` records replace the
/// module of the previous record.
fn go_program(name: &str, listed: &str) -> String {
    let toolchain = listed.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
    let mut text = format!("\nGo modules in {name} ({toolchain}):\n");
    let mut last = None;
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            // The module of the program itself, unless that is the project's own.
            ["mod", module, version, ..] if *version != DEVEL => {
                last = Some(format!("  {module} {version}\n"))
            }
            ["dep", module, version, ..] => {
                last.replace(format!("  {module} {version}\n")).inspect(|line| text.push_str(line));
            }
            // A copy with edits is still the module that it was made from.
            ["=>", _, version, ..] if *version == DEVEL => {}
            ["=>", module, version, ..] => last = Some(format!("  {module} {version}\n")),
            _ => {}
        }
    }
    text.extend(last);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_listed_with_what_replaces_them() {
        let listed = "work/kubernetes: go1.26.8\n\tpath\tlab/images/kubernetes\n\tdep\tcel.dev/expr\tv0.24.0\th1:x=\n\
                      \tdep\tk8s.io/api\tv0.0.0\n\t=>\tk8s.io/api\tv0.34.2\th1:y=\n\tdep\tk8s.io/client-go\tv0.34.2\n\t=>\t./edited/0\t(devel)\n\tbuild\tGOARCH=arm64\n";
        assert_eq!(
            go_program("kubernetes", listed),
            "\nGo modules in kubernetes (go1.26.8):\n  cel.dev/expr v0.24.0\n  k8s.io/api v0.34.2\n  k8s.io/client-go v0.34.2\n"
        );
    }

    #[test]
    fn a_program_of_another_project_is_listed_itself() {
        let listed = "tailscaled: go1.26.8\n\tpath\ttailscale.com/cmd/tailscaled\n\tmod\ttailscale.com\tv1.90.0\th1:x=\n\
                      \tdep\tgo4.org/mem\tv0.1.0\th1:y=\n";
        let expected =
            "\nGo modules in tailscaled (go1.26.8):\n  tailscale.com v1.90.0\n  go4.org/mem v0.1.0\n";
        assert_eq!(go_program("tailscaled", listed), expected);
        let own = listed.replace("v1.90.0\th1:x=", "(devel)");
        assert!(!go_program("tailscaled", &own).contains("tailscale.com"));
    }

    #[test]
    fn checksums_cover_what_boots() {
        let image = tempfile::tempdir().expect("tempdir");
        fs::create_dir(image.path().join("boot")).expect("boot");
        fs::write(image.path().join("boot/vmlinuz"), "").expect("kernel");
        fs::write(image.path().join("boot/initramfs.xz"), "x").expect("initramfs");
        checksums(image.path()).expect("checksums");
        let text = fs::read_to_string(image.path().join("checksums.sha256")).expect("read");
        assert!(
            text.contains(
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  ./boot/vmlinuz\n"
            )
        );
        assert!(text.contains("  ./boot/initramfs.xz\n"));
    }
}
