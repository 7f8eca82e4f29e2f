//! Applies `lab config check` to the configs in a plan.

use std::collections::{BTreeMap, BTreeSet};

use lab_model::{Diagnostic, node::NodeName};

use super::plan::Plan;
use crate::{
    config::TalosContract,
    lint::{ConfigSet, NotAsked, TalosLibrary, check},
};

/// The configs in a plan, and the texts of the user that they are made of.
#[derive(Debug)]
pub struct PlannedConfigs {
    /// The user's patches and files by their origin.
    parts: Vec<(String, String)>,
    /// The configs of the nodes by their origin, for each release.
    nodes: BTreeMap<TalosContract, Vec<(String, String)>>,
}

/// What the check says about the configs in a plan.
#[derive(Debug)]
pub struct CheckedPlan {
    pub findings: Vec<Diagnostic>,
    /// The versions of Talos' library that were asked, or the reason why one was not asked.
    pub asked: Result<Vec<String>, NotAsked>,
}

impl Plan {
    /// Returns the configs to check. Skips configs that a fault corrupts on purpose.
    pub fn configs(&self) -> PlannedConfigs {
        let mut origins = BTreeSet::new();
        let patches = self.spec.nodes.iter().flat_map(|node| self.spec.patches_for(node));
        let patches = patches.filter(|patch| origins.insert(patch.origin.clone()));
        let mut parts: Vec<_> = patches.map(|patch| (patch.origin.clone(), patch.text.clone())).collect();
        let files = self.spec.nodes.iter().filter_map(|node| node.config.as_ref());
        let files = files.filter(|file| origins.insert(file.origin.clone()));
        parts.extend(files.map(|file| (file.origin.clone(), file.text.clone())));
        let sound = |name: &NodeName| self.faults.iter().all(|fault| fault.node() != name);
        let mut nodes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| sound(&node.spec.name)) {
            let Ok(text) = node.config.to_yaml() else { continue };
            // A finding may name another file that differs. Both sets therefore use the same file names.
            let own = node.spec.config.as_ref().map(|file| file.origin.clone());
            let origin = own.unwrap_or_else(|| format!("machine config of {}", node.spec.name));
            nodes.entry(node.contract).or_default().push((origin, text));
        }
        PlannedConfigs { parts, nodes }
    }
}

impl PlannedConfigs {
    /// Whether the lab generated the configs without a text of the user. Tests of the lab show Talos' own library
    /// what the lab generates.
    pub fn are_of_the_lab(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the findings without duplicates. Each refers to the patch or user file that causes it, or else to
    /// the node.
    pub fn check(&self, library: &dyn TalosLibrary) -> CheckedPlan {
        // Rules that compare files need those of all releases.
        let all: Vec<_> = self.nodes.values().flatten().cloned().collect();
        let mut told = BTreeSet::new();
        let mut findings = Vec::new();
        let mut asked = Ok(Vec::new());
        for (contract, configs) in &self.nodes {
            let of_release: BTreeSet<_> = configs.iter().map(|(origin, _)| origin).collect();
            let whole = check(&ConfigSet::new(all.clone()), *contract, library);
            let whole_findings: Vec<_> =
                whole.findings.iter().filter(|finding| of_release.contains(&finding.file)).collect();
            match (&mut asked, whole.asked) {
                (Ok(versions), Ok(version)) => versions.push(version),
                (Ok(_), Err(reason)) => asked = Err(reason),
                (Err(_), _) => {}
            }
            // Most plans have no findings, and their parts need no check.
            if whole_findings.is_empty() {
                continue;
            }
            // A patch alone may lack values from another patch or the lab's config. Findings from the parts
            // therefore count only if the complete config has them too.
            let part = check(&ConfigSet::new(self.parts.clone()), *contract, library);
            let what = |finding: &Diagnostic| (finding.rule.clone(), finding.message.clone());
            let of_whole: BTreeSet<_> = whole_findings.iter().map(|finding| what(finding)).collect();
            let brought: BTreeSet<_> = part.findings.iter().map(what).collect();
            let of_parts = part.findings.iter().filter(|finding| of_whole.contains(&what(finding)));
            for finding in of_parts.chain(whole_findings.iter().copied()) {
                if told.insert(what(finding)) {
                    let mut finding = finding.clone();
                    if !brought.contains(&what(&finding)) && !finding.file.starts_with("machine ") {
                        // The line numbers of the final config differ from those of the file.
                        finding.file = format!("{} with its patches", finding.file);
                    }
                    findings.push(finding);
                }
            }
        }
        CheckedPlan { findings, asked }
    }
}
