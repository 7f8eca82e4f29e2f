//! Host requirements of the lab: findings and fixes.
//!
//! [`Diagnosis::of`] only evaluates probed [`Facts`], so tests can cover every finding without the
//! host.

use std::fmt;

use lab_model::{ExitCode, Size, accelerator::Accelerator};
use serde::Serialize;

use super::{
    facts::{Facts, IMAGE_TOOLS, ImagesFound},
    memory::HOST_RESERVE_MIB,
};
use crate::machine::{QemuVersion, choose_accelerator};

/// How well a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequirementState {
    Met,
    /// The lab runs, with a drawback that the finding describes.
    Degraded,
    /// The lab cannot run.
    Missing,
}

/// One requirement, the finding, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// A stable identifier for scripts.
    pub id: &'static str,
    /// The requirement, in a form for people.
    pub requirement: String,
    pub state: RequirementState,
    pub found: String,
    /// How to fix the problem; empty when the requirement is met.
    pub fix: String,
}

impl Requirement {
    fn met(id: &'static str, requirement: impl Into<String>, found: impl Into<String>) -> Self {
        let (requirement, found) = (requirement.into(), found.into());
        Self { id, requirement, state: RequirementState::Met, found, fix: String::new() }
    }

    fn but(mut self, state: RequirementState, fix: impl Into<String>) -> Self {
        self.state = state;
        self.fix = fix.into();
        self
    }
}

/// The memory and disk that a planned run needs from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Memory of all nodes in total.
    pub memory: Size,
    /// Disk space that a run writes: overlays of the node disks, prepared images, logs.
    pub disk: Size,
}

impl Default for Needs {
    /// Scenario 01: three nodes of 2 GiB. Each node writes about half a GiB to its disk. The prepared
    /// images are written once.
    fn default() -> Self {
        Self { memory: Size::gib(6), disk: Size::gib(4) }
    }
}

/// The complete result of `lab doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The findings, most important first.
    pub findings: Vec<Requirement>,
    /// Whether the lab can run here.
    pub able: bool,
    pub facts: Facts,
}

impl Diagnosis {
    /// Evaluates the facts of a host.
    pub fn of(facts: Facts, needs: Needs) -> Self {
        let findings = vec![
            system(&facts),
            qemu(&facts),
            accelerator(&facts),
            memory(&facts, needs.memory),
            disk(&facts, needs.disk),
            sockets(&facts),
            images(&facts),
            image_tools(&facts),
        ];
        let able = findings.iter().all(|finding| finding.state != RequirementState::Missing);
        Self { findings, able, facts }
    }

    /// [`ExitCode::Passed`] when the lab can run, [`ExitCode::HostUnable`] otherwise.
    pub fn exit_code(&self) -> ExitCode {
        if self.able { ExitCode::Passed } else { ExitCode::HostUnable }
    }

    /// Findings, verdict and facts as one JSON object, for scripts.
    pub fn to_json(&self) -> String {
        // Plain structs with text keys always serialize.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Diagnosis {
    /// One line per requirement, followed by its fix if there is one, and then the verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.requirement.chars().count()).max();
        let width = width.unwrap_or(0);
        for finding in &self.findings {
            let mark = match finding.state {
                RequirementState::Met => "✅",
                RequirementState::Degraded => "🔶",
                RequirementState::Missing => "❌",
            };
            writeln!(f, "{mark} {:width$}  {}", finding.requirement, finding.found)?;
            if !finding.fix.is_empty() {
                writeln!(f, "   {:width$}  → {}", "", finding.fix)?;
            }
        }
        let missing =
            self.findings.iter().filter(|finding| finding.state == RequirementState::Missing).count();
        let verdict = match missing {
            0 => "This host can run the lab.".to_owned(),
            1 => "This host cannot run the lab: 1 requirement is missing.".to_owned(),
            n => format!("This host cannot run the lab: {n} requirements are missing."),
        };
        writeln!(f, "{verdict}")
    }
}

fn system(facts: &Facts) -> Requirement {
    let found = format!("{} on {}, {} cores", facts.platform.os, facts.platform.arch, facts.cores);
    let finding = Requirement::met("system", "Linux or macOS, 2 cores", found);
    match (facts.platform.os.as_str(), facts.cores) {
        ("linux" | "macos", 2..) => finding,
        ("linux" | "macos", _) => finding.but(
            RequirementState::Degraded,
            "with one core a cluster forms slowly: give the machine a second one",
        ),
        _ => {
            finding.but(RequirementState::Missing, "run the lab on Linux or macOS, e.g. in a virtual machine")
        }
    }
}

fn install_qemu(facts: &Facts) -> &'static str {
    match facts.platform.os.as_str() {
        "macos" => "brew install qemu",
        _ => {
            "apt-get install qemu-system-arm (Debian 12, Ubuntu 23.04 or later), or take it from the backports"
        }
    }
}

fn qemu(facts: &Facts) -> Requirement {
    let requirement = format!("QEMU {}.{} or later", QemuVersion::OLDEST.major, QemuVersion::OLDEST.minor);
    match &facts.qemu {
        Ok(qemu) => {
            let restore = if qemu.has_mapped_ram() { ", with mapped-ram" } else { "" };
            let found = format!("{} at {}{restore}", qemu.version, qemu.path.display());
            let finding = Requirement::met("qemu", requirement, found);
            if qemu.version < QemuVersion::OLDEST {
                return finding.but(RequirementState::Missing, install_qemu(facts));
            }
            finding
        }
        Err(why) => Requirement::met("qemu", requirement, why.clone())
            .but(RequirementState::Missing, install_qemu(facts)),
    }
}

fn accelerator(facts: &Facts) -> Requirement {
    let requirement = "hardware acceleration";
    let Ok(qemu) = &facts.qemu else {
        // QEMU is the only missing requirement here, so only QEMU gets a fix.
        return Requirement::met("accelerator", requirement, "not known without QEMU")
            .but(RequirementState::Degraded, "install QEMU first");
    };
    match choose_accelerator(&facts.platform, qemu, None) {
        Ok((Accelerator::Tcg, why)) => {
            let slow = "emulation (tcg) works everywhere; budgets are longer by the measured speed";
            let fix = match facts.platform.kvm {
                crate::machine::KvmAccess::Denied if facts.platform.arch == "aarch64" => {
                    "sudo usermod -aG kvm $USER, then log in again".to_owned()
                }
                _ => {
                    format!("no fix is needed: {slow}; an arm64 host with KVM or HVF is several times faster")
                }
            };
            Requirement::met("accelerator", requirement, format!("none: {why}"))
                .but(RequirementState::Degraded, fix)
        }
        Ok((accelerator, why)) => {
            Requirement::met("accelerator", requirement, format!("{accelerator}: {why}"))
        }
        Err(error) => Requirement::met("accelerator", requirement, error.to_string())
            .but(RequirementState::Missing, install_qemu(facts)),
    }
}

fn memory(facts: &Facts, need: Size) -> Requirement {
    let all = need.as_mib() + HOST_RESERVE_MIB;
    let requirement = format!("{} MiB of free memory", all);
    match &facts.memory {
        Ok(memory) => {
            let found = format!("{} MiB available of {} MiB", memory.available_mib, memory.total_mib);
            let finding = Requirement::met("memory", requirement, found);
            if memory.available_mib >= all {
                return finding;
            }
            let fix = if memory.total_mib < all {
                "this host is too small for three nodes of 2GiB: use fewer nodes, or workers of 1GiB"
            } else {
                "close other programs or labs (lab status, lab down)"
            };
            finding.but(RequirementState::Missing, fix)
        }
        Err(why) => Requirement::met("memory", requirement, why.clone())
            .but(RequirementState::Missing, "the lab must know how much memory there is; mount /proc"),
    }
}

fn disk(facts: &Facts, need: Size) -> Requirement {
    let requirement = format!("{need} of free disk");
    let place = facts.runs.display();
    match &facts.disk_free_mib {
        Ok(free) if *free >= need.as_mib() => {
            Requirement::met("disk", requirement, format!("{free} MiB below {place}"))
        }
        Ok(free) => Requirement::met("disk", requirement, format!("{free} MiB below {place}"))
            .but(RequirementState::Missing, format!("make room; old runs are in {place} and can be removed")),
        Err(why) => Requirement::met("disk", requirement, why.clone())
            .but(RequirementState::Degraded, format!("see that there is room below {place}")),
    }
}

fn sockets(facts: &Facts) -> Requirement {
    let requirement = "a short directory for sockets";
    let base = facts.socket_base.display();
    match &facts.socket_works {
        Ok(()) => Requirement::met("sockets", requirement, base.to_string()),
        Err(why) => Requirement::met("sockets", requirement, format!("{base}: {why}")).but(
            RequirementState::Missing,
            "make /tmp writable, or set XDG_RUNTIME_DIR to a short path that is",
        ),
    }
}

fn images(facts: &Facts) -> Requirement {
    let requirement = "images of the reference node";
    match &facts.images {
        ImagesFound::Usable(place) => Requirement::met("images", requirement, place.clone()),
        ImagesFound::Absent(why) => Requirement::met("images", requirement, "none").but(RequirementState::Degraded, why.clone()),
        ImagesFound::Damaged(why) => Requirement::met("images", requirement, why.clone()).but(
            RequirementState::Missing,
            "unpack the release archive again, or install its package again; in a checkout of the lab: make images",
        ),
    }
}

/// Go 1.21 and later download the toolchain that `go.mod` names.
const OLDEST_GO: (u32, u32) = (1, 21);

fn image_tools(facts: &Facts) -> Requirement {
    let requirement = "tools to build node images";
    let without = |found: String, fix: &str| {
        let finding = Requirement::met("image-tools", requirement, found);
        // Images that are already built, or come from another source, need no tools.
        if matches!(facts.images, ImagesFound::Usable(_)) {
            return finding.but(RequirementState::Degraded, format!("only to build images again: {fix}"));
        }
        finding.but(RequirementState::Degraded, format!("{fix}; or name with --images where built ones are"))
    };
    if facts.platform.os != "linux" {
        return without("images are built on Linux".to_owned(), "make images on a Linux machine");
    }
    let missing: Vec<&str> =
        IMAGE_TOOLS.into_iter().filter(|tool| facts.tools.get(tool).is_none_or(Option::is_none)).collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().map(|tool| package_of(tool)).collect();
        let fix = format!("apt-get install {} (or scripts/setup)", packages.join(" "));
        return without(format!("{} not found", missing.join(", ")), &fix);
    }
    let go = facts.go_version.as_deref().unwrap_or("an unknown version of Go");
    match go_number(go) {
        Some(number) if number >= OLDEST_GO => {
            Requirement::met("image-tools", requirement, format!("{}, {go}", IMAGE_TOOLS.join(", ")))
        }
        _ => without(go.to_owned(), "install Go 1.21 or later"),
    }
}

/// The Debian package that contains a program.
fn package_of(tool: &str) -> &str {
    match tool {
        "go" => "golang-go",
        "mksquashfs" => "squashfs-tools",
        "depmod" => "kmod",
        other => other,
    }
}

/// Major and minor number of Go's version text, e.g. `go1.26.8` or `go1.27rc1`.
fn go_number(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.strip_prefix("go")?.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::host::HostMemory;
    use crate::machine::{HostPlatform, KvmAccess, QemuBinary};

    fn good() -> Facts {
        Facts {
            platform: HostPlatform { os: "linux".into(), arch: "aarch64".into(), kvm: KvmAccess::Usable },
            cores: 8,
            qemu: Ok(QemuBinary {
                accelerators: vec![Accelerator::Kvm, Accelerator::Tcg],
                ..QemuBinary::for_tests()
            }),
            memory: Ok(HostMemory { total_mib: 16384, available_mib: 12000 }),
            runs: "target/lab".into(),
            disk_free_mib: Ok(50_000),
            socket_base: "/run/user/1000".into(),
            socket_works: Ok(()),
            tools: IMAGE_TOOLS.map(|tool| (tool, Some(PathBuf::from("/usr/bin").join(tool)))).into(),
            go_version: Some("go1.26.8".into()),
            images: ImagesFound::Usable("target/images".to_owned()),
        }
    }

    #[test]
    fn a_good_host_has_nothing_to_mend() {
        let diagnosis = Diagnosis::of(good(), Needs::default());
        assert_eq!(diagnosis.exit_code(), ExitCode::Passed);
        assert!(diagnosis.findings.iter().all(|f| f.state == RequirementState::Met && f.fix.is_empty()));
        insta::assert_snapshot!(diagnosis);
    }

    #[test]
    fn an_emulating_host_is_able_and_a_bare_one_is_not() {
        let mut emulating = good();
        emulating.platform.arch = "x86_64".into();
        emulating.tools.insert("mmdebstrap", None);
        emulating.disk_free_mib = Err("asking for the space at / failed: EIO".into());
        let emulating = Diagnosis::of(emulating, Needs::default());
        assert_eq!(emulating.exit_code(), ExitCode::Passed);

        let bare = Facts {
            platform: HostPlatform { os: "linux".into(), arch: "x86_64".into(), kvm: KvmAccess::Absent },
            cores: 1,
            qemu: Err("qemu-system-aarch64 is not on PATH".into()),
            memory: Ok(HostMemory { total_mib: 4096, available_mib: 1000 }),
            disk_free_mib: Ok(100),
            socket_works: Err("Permission denied".into()),
            tools: BTreeMap::new(),
            go_version: None,
            images: ImagesFound::Absent("build them with: make images".to_owned()),
            ..good()
        };
        let bare = Diagnosis::of(bare, Needs::default());
        assert_eq!(bare.exit_code(), ExitCode::HostUnable);
        insta::assert_snapshot!(format!("{emulating}\n{bare}"));
    }

    #[test]
    fn what_can_be_mended_says_how() {
        let fix = |change: fn(&mut Facts), id: &str| {
            let mut facts = good();
            change(&mut facts);
            let diagnosis = Diagnosis::of(facts, Needs::default());
            diagnosis.findings.into_iter().find(|f| f.id == id).map(|f| (f.state, f.fix)).expect("finding")
        };
        let (state, text) = fix(|f| f.platform.kvm = KvmAccess::Denied, "accelerator");
        assert_eq!(
            (state, text.as_str()),
            (RequirementState::Degraded, "sudo usermod -aG kvm $USER, then log in again")
        );
        let damaged =
            |f: &mut Facts| f.images = ImagesFound::Damaged("compute lacks boot/vmlinuz".to_owned());
        let (state, text) = fix(damaged, "images");
        assert!(state == RequirementState::Missing && text.contains("unpack the release archive"), "{text}");
        let (state, text) = fix(|f| f.go_version = Some("go1.19.8".into()), "image-tools");
        assert!(state == RequirementState::Degraded && text.contains("install Go 1.21 or later"), "{text}");
        let busy = |f: &mut Facts| f.memory = Ok(HostMemory { total_mib: 16384, available_mib: 3000 });
        let (state, text) = fix(busy, "memory");
        assert!(state == RequirementState::Missing && text.contains("lab down"), "{text}");
    }

    #[test]
    fn versions_of_go_are_numbers() {
        assert_eq!(go_number("go1.26.8"), Some((1, 26)));
        assert_eq!(go_number("go1.27rc1"), Some((1, 27)));
        assert_eq!(go_number("devel +abc"), None);
    }

    #[tokio::test]
    async fn this_host_can_be_asked() {
        let diagnosis = Diagnosis::of(
            Facts::probe("target/lab".as_ref(), ImagesFound::Usable("target/images".to_owned())).await,
            Needs::default(),
        );
        assert_eq!(diagnosis.findings.len(), 8);
        let json: serde_json::Value = serde_json::from_str(&diagnosis.to_json()).expect("JSON");
        assert_eq!(json["able"], diagnosis.able);
        assert!(diagnosis.facts.memory.is_ok() && diagnosis.facts.disk_free_mib.is_ok());
    }
}
