//! The QEMU binary and its features.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use lab_model::{accelerator::Accelerator, files::is_exhausted};
use serde::{Deserialize, Serialize};

use super::ask;

/// The name of the binary in `PATH`.
const PROGRAM: &str = "qemu-system-aarch64";

/// Version of a QEMU release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QemuVersion {
    pub major: u32,
    pub minor: u32,
    /// 50 and above mark development snapshots.
    pub micro: u32,
}

impl QemuVersion {
    /// The oldest release with `-netdev stream`, which connects VMs to the lab's switch.
    pub const OLDEST: Self = Self { major: 7, minor: 2, micro: 0 };
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// A `qemu-system-aarch64` with its reported features. Created once per run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuBinary {
    pub path: PathBuf,
    pub version: QemuVersion,
    /// The distribution's version text, e.g. `Debian 1:7.2+dfsg-7`; may be empty.
    pub package: String,
    /// The compiled-in accelerators. The host does not necessarily support them.
    pub accelerators: Vec<Accelerator>,
    /// The supported network back ends, e.g. `user`, `stream`.
    pub netdevs: Vec<String>,
    /// The supported migration capabilities, e.g. `mapped-ram` (since 9.0).
    pub migration_capabilities: Vec<String>,
    /// Whether QEMU can confine itself with seccomp. Builds for other systems than Linux cannot.
    pub sandbox: bool,
}

/// A guest that takes over QEMU then starts no program, raises no privilege and changes no limit.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The reason why there is no usable QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// The binary is not in `PATH`.
    #[error(
        "{PROGRAM} is not on PATH; install QEMU 7.2 or later (Debian: qemu-system-arm, macOS: brew install qemu)"
    )]
    NotFound,
    /// The binary does not start.
    #[error("cannot start {}: {}", path.display(), why_not_started(source))]
    Start {
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The binary starts but does not answer.
    #[error("{} does not answer as QEMU does: {seen}", path.display())]
    Unusable {
        path: PathBuf,
        /// The output instead of an answer.
        seen: String,
    },
    /// The binary answers, but lacks a feature that the lab needs.
    #[error("{} is QEMU {version} without {missing}; the lab needs 7.2 or later with slirp", path.display())]
    TooOld {
        path: PathBuf,
        version: QemuVersion,
        /// The missing feature.
        missing: String,
    },
}

fn why_not_started(source: &std::io::Error) -> String {
    if is_exhausted(source) {
        return format!("{source}; raise the limit of open files (ulimit -n), the lab needs some hundred");
    }
    format!("{source}; is it an executable for this host?")
}

impl QemuBinary {
    /// Finds QEMU (`explicit`, else `qemu-system-aarch64` in `PATH`) and queries its features.
    ///
    /// # Errors
    /// Fails if there is no binary, it does not answer, or it is older than the lab requires.
    pub async fn find(explicit: Option<&Path>) -> Result<Self, QemuError> {
        let path = match explicit {
            Some(path) => path.to_owned(),
            None => on_path(PROGRAM).ok_or(QemuError::NotFound)?,
        };
        let answers = ask::ask(&path).await?;
        let number = |name: &str| u32::try_from(answers.version[name].as_u64().unwrap_or(0)).unwrap_or(0);
        let known = [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Tcg];
        let binary = Self {
            version: QemuVersion { major: number("major"), minor: number("minor"), micro: number("micro") },
            package: answers.package,
            accelerators: known
                .into_iter()
                .filter(|a| answers.accelerators.contains(&format!("{a}-accel")))
                .collect(),
            netdevs: answers.netdevs,
            migration_capabilities: answers.migration_capabilities,
            sandbox: answers.sandbox,
            path,
        };
        binary.check()
    }

    /// Whether QEMU can save RAM to a file and map RAM from a file directly (QEMU 9.0 and later).
    pub fn has_mapped_ram(&self) -> bool {
        self.migration_capabilities.iter().any(|capability| capability == "mapped-ram")
    }

    /// The arguments that confine every QEMU process; empty if this QEMU cannot be confined.
    pub fn confinement(&self) -> &'static [&'static str] {
        if self.sandbox { &["-sandbox", SANDBOX] } else { &[] }
    }

    fn check(self) -> Result<Self, QemuError> {
        match ["stream", "user", "hubport"].iter().find(|need| !self.netdevs.iter().any(|has| has == *need)) {
            None => Ok(self),
            Some(missing) => Err(QemuError::TooOld {
                missing: format!("-netdev {missing}"),
                version: self.version,
                path: self.path,
            }),
        }
    }

    /// A plausible QEMU 7.2, for tests of pure functions.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            path: "qemu-system-aarch64".into(),
            version: QemuVersion { major: 7, minor: 2, micro: 22 },
            package: String::new(),
            accelerators: vec![Accelerator::Tcg],
            netdevs: ["user", "stream", "hubport"].map(str::to_owned).to_vec(),
            migration_capabilities: Vec::new(),
            sandbox: true,
        }
    }
}

/// The first executable file with the name `program` in the directories of `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let ten = QemuVersion { major: 10, minor: 0, micro: 2 };
        assert!(QemuVersion::OLDEST < ten);
        assert_eq!(ten.to_string(), "10.0.2");
    }

    #[test]
    fn a_lack_of_descriptors_is_not_a_wrong_executable() {
        let told = |code| {
            let source = std::io::Error::from_raw_os_error(code);
            QemuError::Start { path: "qemu".into(), source }.to_string()
        };
        assert!(told(nix::libc::EMFILE).contains("ulimit -n"), "{}", told(nix::libc::EMFILE));
        assert!(told(nix::libc::ENOEXEC).ends_with("is it an executable for this host?"));
    }

    #[test]
    fn qemu_is_confined_unless_it_was_built_without() {
        let qemu = QemuBinary::for_tests();
        assert_eq!(qemu.confinement(), ["-sandbox", SANDBOX]);
        assert!(QemuBinary { sandbox: false, ..qemu }.confinement().is_empty());
    }

    #[test]
    fn a_qemu_without_stream_sockets_is_refused_by_name() {
        let old = QemuBinary {
            version: QemuVersion { major: 6, minor: 2, micro: 0 },
            netdevs: vec!["user".into(), "hubport".into()],
            ..QemuBinary::for_tests()
        };
        assert_eq!(
            old.check().unwrap_err().to_string(),
            "qemu-system-aarch64 is QEMU 6.2.0 without -netdev stream; the lab needs 7.2 or later with slirp"
        );
    }
}
