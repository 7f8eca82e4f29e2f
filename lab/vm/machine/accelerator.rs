//! Selects the accelerator for the guests from facts about the host and the QEMU binary.

use std::path::Path;

use lab_model::accelerator::{Accelerator, AcceleratorError};
use serde::{Deserialize, Serialize};

use super::QemuBinary;

/// Whether this user can open `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvmAccess {
    /// The device opens for reading and writing.
    Usable,
    /// The device exists, but this user has no permission to open it.
    Denied,
    /// The device does not exist.
    Absent,
}

/// Host facts that determine the accelerator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlatform {
    /// Operating system in Rust's spelling: `linux`, `macos`.
    pub os: String,
    /// Architecture in Rust's spelling: `x86_64`, `aarch64`.
    pub arch: String,
    pub kvm: KvmAccess,
}

impl HostPlatform {
    /// The facts of this host. Opens `/dev/kvm` once and closes it, without other side effects.
    pub fn current() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            kvm: kvm_access(Path::new("/dev/kvm")),
        }
    }
}

fn kvm_access(device: &Path) -> KvmAccess {
    match std::fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => KvmAccess::Usable,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => KvmAccess::Absent,
        Err(_) => KvmAccess::Denied,
    }
}

/// Chooses an accelerator for arm64 guests: KVM, else HVF, else TCG. The second value is the reason,
/// in a form for people. `wanted` overrides the order, but not the facts.
///
/// # Errors
/// Returns [`AcceleratorError::Unavailable`] if `wanted` cannot work on this host.
pub fn choose_accelerator(
    host: &HostPlatform,
    qemu: &QemuBinary,
    wanted: Option<Accelerator>,
) -> Result<(Accelerator, String), AcceleratorError> {
    if let Some(wanted) = wanted {
        return match obstacle(host, qemu, wanted) {
            None => Ok((wanted, "requested".to_owned())),
            Some(obstacle) => Err(AcceleratorError::Unavailable { wanted, obstacle }),
        };
    }
    let mut obstacles = Vec::new();
    for candidate in [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Tcg] {
        match obstacle(host, qemu, candidate) {
            None if obstacles.is_empty() => return Ok((candidate, "fastest on this host".to_owned())),
            None => return Ok((candidate, obstacles.join("; "))),
            Some(obstacle) => obstacles.push(format!("no {candidate}: {obstacle}")),
        }
    }
    Err(AcceleratorError::Nothing { qemu: qemu.path.display().to_string(), obstacles: obstacles.join("; ") })
}

/// The reason why an accelerator cannot work, or `None`.
fn obstacle(host: &HostPlatform, qemu: &QemuBinary, accelerator: Accelerator) -> Option<String> {
    let native =
        || (host.arch != "aarch64").then(|| format!("the host is {}, the guests are aarch64", host.arch));
    let on = |os: &str| (host.os != os).then(|| format!("the host runs {}", host.os));
    let compiled_in = || {
        (!qemu.accelerators.contains(&accelerator))
            .then(|| format!("{} was built without it", qemu.path.display()))
    };
    match accelerator {
        Accelerator::Kvm => on("linux").or_else(native).or_else(|| match host.kvm {
            KvmAccess::Usable => compiled_in(),
            KvmAccess::Denied => Some("/dev/kvm may not be opened (join group kvm)".to_owned()),
            KvmAccess::Absent => Some("/dev/kvm does not exist".to_owned()),
        }),
        Accelerator::Hvf => on("macos").or_else(native).or_else(compiled_in),
        Accelerator::Tcg => compiled_in(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Accelerator::{Hvf, Kvm, Tcg};

    fn host(os: &str, arch: &str, kvm: KvmAccess) -> HostPlatform {
        HostPlatform { os: os.into(), arch: arch.into(), kvm }
    }

    fn qemu(accelerators: &[Accelerator]) -> QemuBinary {
        QemuBinary { accelerators: accelerators.to_vec(), ..QemuBinary::for_tests() }
    }

    #[test]
    fn the_fastest_usable_accelerator_wins_and_the_reason_names_what_is_missing() {
        let cases = [
            (host("linux", "aarch64", KvmAccess::Usable), qemu(&[Kvm, Tcg]), Kvm, "fastest on this host"),
            (
                host("linux", "aarch64", KvmAccess::Denied),
                qemu(&[Kvm, Tcg]),
                Tcg,
                "no kvm: /dev/kvm may not be opened (join group kvm); no hvf: the host runs linux",
            ),
            (
                host("linux", "x86_64", KvmAccess::Usable),
                qemu(&[Tcg]),
                Tcg,
                "no kvm: the host is x86_64, the guests are aarch64; no hvf: the host runs linux",
            ),
            (
                host("macos", "aarch64", KvmAccess::Absent),
                qemu(&[Hvf, Tcg]),
                Hvf,
                "no kvm: the host runs macos",
            ),
        ];
        for (host, qemu, accelerator, reason) in cases {
            assert_eq!(choose_accelerator(&host, &qemu, None), Ok((accelerator, reason.to_owned())));
        }
    }

    #[test]
    fn an_impossible_wish_is_refused_with_the_obstacle() {
        let error = choose_accelerator(&host("linux", "x86_64", KvmAccess::Usable), &qemu(&[Tcg]), Some(Kvm))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "accelerator kvm was requested, but the host is x86_64, the guests are aarch64; \
             leave the choice to the lab or use tcg"
        );
    }

    #[test]
    fn a_wish_that_can_be_met_is_met() {
        let chosen =
            choose_accelerator(&host("macos", "aarch64", KvmAccess::Absent), &qemu(&[Hvf, Tcg]), Some(Tcg));
        assert_eq!(chosen, Ok((Tcg, "requested".to_owned())));
    }
}
