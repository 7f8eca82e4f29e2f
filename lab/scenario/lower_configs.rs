//! The parts of `cluster:` that are about machine configs: which of the lab's patches are on.

use super::file::Lowering;
use super::problem::Problem;
use super::raw::RawCluster;
use crate::talos::{LabPatchId, LabPatches};
use crate::words::choice;

impl Lowering<'_> {
    /// Which of the lab's patches are on.
    pub(super) fn lab_patches(&mut self, raw: &RawCluster) -> LabPatches {
        let mut patches = LabPatches { profile: raw.profile, ..LabPatches::default() };
        for text in &raw.lab_patches.off {
            match text.value.parse::<LabPatchId>() {
                Ok(id) => {
                    patches.off.insert(id);
                }
                Err(error) => {
                    let names: Vec<_> = LabPatchId::all().map(LabPatchId::as_str).collect();
                    let mut problem = Problem::at(text, error.to_string());
                    problem.help = choice(&text.value, &names, "`lab config lab` tells what they are for");
                    self.report(problem);
                }
            }
        }
        patches
    }
}
