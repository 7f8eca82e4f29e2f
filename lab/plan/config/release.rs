//! Talos releases: the version in a node image, and what the release determines.
//!
//! Sources: `pkg/machinery/constants/constants.go` (`DefaultKubernetesVersion`, `EtcdImage`,
//! `DefaultEtcdVersion`, `DefaultCoreDNSVersion`, `FlannelVersion`) and `pkg/images/list.go`
//! (`DefaultSandboxImage`) of each tag; `pkg/machinery/kernel/kernel.go` and
//! `pkg/machinery/imager/quirks` for the kernel arguments; `pkg/machinery/compatibility` for the range of
//! Kubernetes versions.

use std::{fmt, str::FromStr};

use semver::Version;
use serde::{Serialize, Serializer};

use super::cluster_config::TalosContract;

/// A release of Talos.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TalosRelease(Version);

/// The images of a release's components that a machine config does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultImages {
    /// Kubernetes version without `v`.
    pub kubernetes: &'static str,
    /// The etcd image.
    pub etcd: &'static str,
    /// Tag of the CoreDNS image.
    coredns: &'static str,
    /// Tag of the flannel image.
    flannel: &'static str,
    /// Tag of the sandbox image of every pod.
    pause: &'static str,
}

/// Number of Kubernetes minor versions that a Talos release supports, up to its default version.
const SUPPORTED_KUBERNETES: u64 = 6;

type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// Release, Kubernetes, etcd, CoreDNS, flannel, pause; in the order of the releases.
const RELEASES: &[Row] = &[
    ("1.11.0", "1.34.0", "gcr.io/etcd-development/etcd:v3.6.4", "v1.12.2", "v0.27.2", "3.10"),
    ("1.11.1", "1.34.0", "gcr.io/etcd-development/etcd:v3.6.4", "v1.12.3", "v0.27.2", "3.10"),
    ("1.11.2", "1.34.1", "gcr.io/etcd-development/etcd:v3.6.4", "v1.12.3", "v0.27.2", "3.10"),
    ("1.11.3", "1.34.1", "gcr.io/etcd-development/etcd:v3.6.5", "v1.12.4", "v0.27.4", "3.10"),
    ("1.11.4", "1.34.1", "gcr.io/etcd-development/etcd:v3.6.5", "v1.12.4", "v0.27.4", "3.10"),
    ("1.11.5", "1.34.1", "gcr.io/etcd-development/etcd:v3.6.5", "v1.12.4", "v0.27.4", "3.10"),
    ("1.11.6", "1.34.1", "gcr.io/etcd-development/etcd:v3.6.5", "v1.12.4", "v0.27.4", "3.10"),
    ("1.12.0", "1.35.0", "registry.k8s.io/etcd:v3.6.7", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.1", "1.35.0", "registry.k8s.io/etcd:v3.6.7", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.2", "1.35.0", "registry.k8s.io/etcd:v3.6.7", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.3", "1.35.0", "registry.k8s.io/etcd:v3.6.7", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.4", "1.35.0", "registry.k8s.io/etcd:v3.6.7", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.5", "1.35.2", "registry.k8s.io/etcd:v3.6.8", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.6", "1.35.2", "registry.k8s.io/etcd:v3.6.8", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.7", "1.35.4", "registry.k8s.io/etcd:v3.6.9", "v1.13.2", "v0.27.4", "3.10"),
    ("1.12.8", "1.35.4", "registry.k8s.io/etcd:v3.6.11", "v1.14.3", "v0.27.4", "3.10.1"),
    ("1.12.9", "1.35.4", "registry.k8s.io/etcd:v3.6.11", "v1.14.2", "v0.27.4", "3.10.1"),
    ("1.12.10", "1.35.4", "registry.k8s.io/etcd:v3.6.11", "v1.14.2", "v0.27.4", "3.10.1"),
    ("1.12.11", "1.35.4", "registry.k8s.io/etcd:v3.6.11", "v1.14.2", "v0.27.4", "3.10.1"),
    ("1.13.0", "1.36.0", "registry.k8s.io/etcd:v3.6.9", "v1.14.2", "v0.28.4", "3.10.1"),
    ("1.13.1", "1.36.0", "registry.k8s.io/etcd:v3.6.11", "v1.14.2", "v0.28.4", "3.10.1"),
    ("1.13.2", "1.36.0", "registry.k8s.io/etcd:v3.6.11", "v1.14.2", "v0.28.4", "3.10.1"),
    ("1.13.3", "1.36.1", "registry.k8s.io/etcd:v3.6.11", "v1.14.2", "v0.28.4", "3.10.1"),
    ("1.13.4", "1.36.1", "registry.k8s.io/etcd:v3.6.12", "v1.14.2", "v0.28.5", "3.10.1"),
    ("1.13.5", "1.36.2", "registry.k8s.io/etcd:v3.6.12", "v1.14.2", "v0.28.5", "3.10.1"),
    ("1.13.6", "1.36.2", "registry.k8s.io/etcd:v3.6.12", "v1.14.2", "v0.28.5", "3.10.1"),
    ("1.13.7", "1.36.2", "registry.k8s.io/etcd:v3.6.12", "v1.14.4", "0.28.7", "3.10.1"),
    ("1.13.8", "1.36.2", "registry.k8s.io/etcd:v3.6.12", "v1.14.6", "0.28.8", "3.10.1"),
    ("1.13.9", "1.36.3", "registry.k8s.io/etcd:v3.6.12", "v1.14.6", "0.28.8", "3.10.1"),
    ("1.14.0-rc.1", "1.37.0-rc.0", "registry.k8s.io/etcd:3.7.1", "v1.14.6", "0.28.9", "3.10.2"),
];

impl TalosRelease {
    /// Returns the release in the `PRETTY_NAME` of a Talos image, e.g. `Talos (v1.13.9)`. Returns `None` for
    /// other software.
    pub fn of_software(name: &str) -> Option<Self> {
        let inner = name.strip_prefix("Talos")?.trim().trim_start_matches('(').trim_end_matches(')');
        inner.parse().ok()
    }

    /// Returns the document format of the release's machine configs. Returns `None` for releases before
    /// 1.11, which the lab does not support.
    pub fn contract(&self) -> Option<TalosContract> {
        match (self.0.major, self.0.minor) {
            (1, 11) => Some(TalosContract::V1_11),
            (1, 12) => Some(TalosContract::V1_12),
            (1, 13..) | (2.., _) => Some(TalosContract::V1_13),
            _ => None,
        }
    }

    /// Returns the newest release with a contract.
    pub fn newest_of(contract: TalosContract) -> Self {
        let releases = RELEASES.iter().map(|row| Self(version(row)));
        let mut releases = releases.filter(|release| release.0.pre.is_empty());
        let newest = releases.rfind(|release| release.contract() == Some(contract));
        newest.unwrap_or_else(|| panic!("the table of releases has none of {}", contract.as_str()))
    }

    /// Returns whether the table contains the images of this release.
    pub fn is_known(&self) -> bool {
        RELEASES.iter().any(|row| version(row) == self.tagged())
    }

    /// Returns the tag that a build is of: builds between tags have further words, e.g. `v1.13.9-dirty`.
    fn tagged(&self) -> Version {
        let before = ["alpha", "beta", "rc"].iter().any(|word| self.0.pre.as_str().starts_with(word));
        if before { self.0.clone() } else { Version::new(self.0.major, self.0.minor, self.0.patch) }
    }

    /// Returns the images of the release. Returns those of the nearest earlier release of the same minor
    /// version for a release that is newer than the table, and of the newest release for an unknown
    /// minor version.
    pub fn images(&self) -> DefaultImages {
        let wanted = self.tagged();
        let minor = |row: &&Row| (version(row).major, version(row).minor) == (wanted.major, wanted.minor);
        let same = || RELEASES.iter().filter(minor);
        let row = same().rfind(|row| version(row) <= wanted).or_else(|| same().next());
        let row = row.or_else(|| RELEASES.iter().rfind(|row| version(row) <= wanted)).unwrap_or(&RELEASES[0]);
        let &(_, kubernetes, etcd, coredns, flannel, pause) = row;
        DefaultImages { kubernetes, etcd, coredns, flannel, pause }
    }

    /// Returns the oldest and the newest Kubernetes minor version that the release supports.
    pub fn kubernetes_range(&self) -> (u64, u64) {
        let newest = self.images().kubernetes.parse::<Version>().map_or(0, |version| version.minor);
        (newest.saturating_sub(SUPPORTED_KUBERNETES - 1), newest)
    }

    /// Returns the kernel arguments of an image of this release for bare metal without its consoles
    /// (`kernel.DefaultArgs`).
    pub fn kernel_arguments(&self) -> Vec<&'static str> {
        let minor = (self.0.major, self.0.minor);
        let mut arguments = vec!["talos.platform=metal"];
        if minor < (1, 14) {
            arguments.push("init_on_alloc=1");
        }
        arguments.extend(["slab_nomerge", "pti=on", "consoleblank=0"]);
        if minor < (1, 14) {
            arguments.push("nvme_core.io_timeout=4294967295");
        }
        arguments.extend(["printk.devkmsg=on", "selinux=1"]);
        if minor >= (1, 12) {
            arguments.push("module.sig_enforce=1");
        }
        if minor >= (1, 13) {
            arguments.push("proc_mem.force_override=never");
        }
        arguments
    }

    /// Returns whether the release sets `kernel.randomize_va_space=2` at boot, which undoes the kernel
    /// argument `norandmaps` (`pkg/kernel/kspp`).
    pub fn randomizes_addresses(&self) -> bool {
        (self.0.major, self.0.minor) >= (1, 12)
    }
}

fn version(row: &Row) -> Version {
    row.0.parse().unwrap_or_else(|error| panic!("the table of releases has {}: {error}", row.0))
}

impl DefaultImages {
    pub fn coredns(&self) -> String {
        format!("registry.k8s.io/coredns/coredns:{}", self.coredns)
    }

    pub fn flannel(&self) -> String {
        format!("ghcr.io/siderolabs/flannel:{}", self.flannel)
    }

    pub fn pause(&self) -> String {
        format!("registry.k8s.io/pause:{}", self.pause)
    }

    pub fn kubelet(&self) -> String {
        kubelet_image(self.kubernetes)
    }

    /// Returns the image of a Kubernetes component, e.g. `kube-apiserver`.
    pub fn component(&self, name: &str) -> String {
        component_image(name, self.kubernetes)
    }
}

/// Returns the kubelet image of a Kubernetes version.
pub(super) fn kubelet_image(version: &str) -> String {
    format!("ghcr.io/siderolabs/kubelet:v{version}")
}

/// Returns the image of a Kubernetes component in a Kubernetes version.
pub(super) fn component_image(name: &str, version: &str) -> String {
    format!("registry.k8s.io/{name}:v{version}")
}

impl FromStr for TalosRelease {
    type Err = semver::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('v').unwrap_or(text).parse().map(Self)
    }
}

impl fmt::Display for TalosRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Serialize for TalosRelease {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> TalosRelease {
        text.parse().expect("release")
    }

    #[test]
    fn the_release_is_read_from_the_name_of_the_software() {
        assert_eq!(TalosRelease::of_software("Talos (v1.13.9)"), Some(release("v1.13.9")));
        assert_eq!(
            TalosRelease::of_software("Talos (v1.14.0-rc.1)").map(|release| release.to_string()),
            Some("v1.14.0-rc.1".to_owned())
        );
        for other in ["Lab reference node 0.1.0", "Talos", "Talos (latest)", "Debian GNU/Linux 13"] {
            assert_eq!(TalosRelease::of_software(other), None, "{other}");
        }
    }

    #[test]
    fn the_table_is_in_order_and_each_release_has_a_contract() {
        let versions: Vec<_> = RELEASES.iter().map(version).collect();
        assert!(versions.is_sorted());
        assert!(versions.into_iter().all(|version| TalosRelease(version).contract().is_some()));
        for (contract, newest) in [
            (TalosContract::V1_11, "v1.11.6"),
            (TalosContract::V1_12, "v1.12.11"),
            (TalosContract::V1_13, "v1.13.9"),
        ] {
            assert_eq!(TalosRelease::newest_of(contract), release(newest));
        }
    }

    #[test]
    fn images_follow_the_release_and_not_its_contract() {
        let of = |text: &str| {
            let images = release(text).images();
            let tag = |image: String| image.rsplit(':').next().map(str::to_owned).unwrap_or_default();
            let kubernetes = images.kubernetes;
            format!("{kubernetes} {} {} {}", images.etcd, tag(images.coredns()), tag(images.flannel()))
                + &format!(" {}", tag(images.pause()))
        };
        assert_eq!(of("v1.11.5"), "1.34.1 gcr.io/etcd-development/etcd:v3.6.5 v1.12.4 v0.27.4 3.10");
        assert_eq!(of("v1.12.7"), "1.35.4 registry.k8s.io/etcd:v3.6.9 v1.13.2 v0.27.4 3.10");
        assert_eq!(of("v1.13.0"), "1.36.0 registry.k8s.io/etcd:v3.6.9 v1.14.2 v0.28.4 3.10.1");
        assert_eq!(of("v1.13.9"), "1.36.3 registry.k8s.io/etcd:v3.6.12 v1.14.6 0.28.8 3.10.1");
        assert_eq!(of("v1.14.0-rc.1"), "1.37.0-rc.0 registry.k8s.io/etcd:3.7.1 v1.14.6 0.28.9 3.10.2");
    }

    #[test]
    fn an_unknown_release_has_the_images_of_its_neighbour() {
        for (unknown, known) in [
            ("v1.11.99", "v1.11.6"),
            ("v1.13.0-beta.1", "v1.13.0"),
            ("v1.14.0", "v1.14.0-rc.1"),
            ("v1.99.0", "v1.14.0-rc.1"),
        ] {
            assert!(!release(unknown).is_known(), "{unknown}");
            assert!(release(known).is_known(), "{known}");
            assert_eq!(release(unknown).images(), release(known).images(), "{unknown}");
        }
        let own_build = release("v1.13.8-3-g0123abc-dirty");
        assert!(own_build.is_known());
        assert_eq!(own_build.images(), release("v1.13.8").images());
    }

    #[test]
    fn a_release_supports_six_kubernetes_versions() {
        assert_eq!(release("v1.11.5").kubernetes_range(), (29, 34));
        assert_eq!(release("v1.13.9").kubernetes_range(), (31, 36));
    }

    #[test]
    fn modules_are_checked_since_1_12() {
        let has = |text: &str, argument: &str| release(text).kernel_arguments().contains(&argument);
        assert!(!has("v1.11.5", "module.sig_enforce=1") && has("v1.11.5", "selinux=1"));
        assert!(has("v1.12.7", "module.sig_enforce=1") && !has("v1.12.7", "proc_mem.force_override=never"));
        assert!(has("v1.13.9", "proc_mem.force_override=never") && has("v1.13.9", "init_on_alloc=1"));
        assert!(!has("v1.14.0-rc.1", "init_on_alloc=1"));
    }
}
