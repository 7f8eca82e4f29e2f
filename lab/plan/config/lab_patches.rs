//! The lab patches that a cluster gets: those of its profile, those that its nodes ask for, and those that a scenario
//! switches on and off.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    cluster_config::{ClusterConfig, NodeConfig},
    lab_patch::LabPatchId,
    patch_documents::LabPatch,
};

/// The selection of lab patches that are merged into configs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabPatches {
    /// The profile, which enables or disables the speed patches.
    pub profile: Profile,
    /// Patches that are enabled although the profile or the cluster does not ask for them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub on: BTreeSet<LabPatchId>,
    /// Disabled patches.
    pub off: BTreeSet<LabPatchId>,
}

/// The purpose of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// An ordinary cluster.
    #[default]
    Standard,
    /// A throw-away cluster with fast formation.
    Speed,
}

/// The patches that a Talos node without an accelerator asks for. A reference node has settings of its own, and with
/// an accelerator an API server starts within seconds.
const EMULATED_TALOS: [LabPatchId; 8] = [
    LabPatchId::LateComponents,
    LabPatchId::GoRuntime,
    LabPatchId::MemoryWatch,
    LabPatchId::KubeletStatistics,
    LabPatchId::FlannelResync,
    LabPatchId::SpeedEtcdTiming,
    LabPatchId::SpeedLeaderElection,
    LabPatchId::SpeedLeases,
];

impl LabPatchId {
    /// Returns the profile that enables the patch.
    pub fn profile(self) -> Profile {
        if self.as_str().starts_with("speed/") { Profile::Speed } else { Profile::Standard }
    }

    /// Whether only emulated Talos nodes ask for the patch.
    fn is_for_emulation(self) -> bool {
        self.profile() == Profile::Standard && EMULATED_TALOS.contains(&self)
    }
}

impl LabPatches {
    /// Returns whether no patch is disabled and no profile is selected.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the enabled patches, in merge order.
    pub fn on(&self) -> impl Iterator<Item = LabPatchId> {
        LabPatchId::all().filter(|id| {
            let of_profile = self.profile == Profile::Speed || id.profile() == Profile::Standard;
            let asked_for = of_profile && !id.is_for_emulation() || self.on.contains(id);
            asked_for && !self.off.contains(id)
        })
    }

    /// Returns the selection for a Talos node without an accelerator.
    pub fn of_emulated_talos(&self) -> Self {
        let mut patches = self.clone();
        patches.on.extend(EMULATED_TALOS);
        patches
    }

    /// Whether the patch is enabled.
    pub fn has(&self, id: LabPatchId) -> bool {
        self.on().any(|on| on == id)
    }

    /// Returns the enabled patches for a node.
    pub fn of_node(&self, cluster: &ClusterConfig, node: &NodeConfig) -> Vec<LabPatch> {
        self.on().filter_map(|id| id.patch(cluster, node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_profile_is_off_unless_asked_for_and_each_patch_can_be_switched_off() {
        let standard = LabPatches::default();
        assert!(standard.on().all(|id| id.profile() == Profile::Standard));
        let off = [LabPatchId::Time, LabPatchId::SpeedAudit].into();
        let speed = LabPatches { profile: Profile::Speed, off, ..LabPatches::default() };
        let of_emulation = LabPatchId::all().filter(|id| id.is_for_emulation()).count();
        assert_eq!(speed.on().count(), LabPatchId::all().count() - of_emulation - 2);
        assert!(!speed.on().any(|id| speed.off.contains(&id)));
        let one = LabPatches { on: [LabPatchId::SpeedLeases].into(), ..LabPatches::default() };
        assert_eq!(
            one.on().filter(|id| id.profile() == Profile::Speed).collect::<Vec<_>>(),
            [LabPatchId::SpeedLeases]
        );
        assert!(
            !standard.has(LabPatchId::GoRuntime) && standard.of_emulated_talos().has(LabPatchId::GoRuntime)
        );
        let without = LabPatches { off: [LabPatchId::GoRuntime].into(), ..LabPatches::default() };
        assert!(!without.of_emulated_talos().has(LabPatchId::GoRuntime));
    }
}
