//! The rules of `lab config check` over what a plan would send to its nodes.

use std::collections::BTreeSet;

use lab_model::Diagnostic;

use super::plan::Plan;
use crate::lint::{ConfigSet, Schema, check};

impl Plan {
    /// What is wrong with the nodes' configs, each thing once: told of the patch or of the user's file
    /// that brings it, where one does, else of the node. Configs that a fault spoils on purpose are left out.
    pub fn config_findings(&self) -> Vec<Diagnostic> {
        let schema = Schema::of(self.spec.talos_contract);
        let mut origins = BTreeSet::new();
        let patches = self.spec.nodes.iter().flat_map(|node| self.spec.patches_for(node));
        let patches = patches.filter(|patch| origins.insert(patch.origin.clone()));
        let mut parts: Vec<_> = patches.map(|patch| (patch.origin.clone(), patch.text.clone())).collect();
        let files = self.spec.nodes.iter().filter_map(|node| node.config.as_ref());
        let files = files.filter(|file| origins.insert(file.origin.clone()));
        parts.extend(files.map(|file| (file.origin.clone(), file.text.clone())));
        let sound = |name: &lab_model::node::NodeName| self.faults.iter().all(|fault| fault.node() != name);
        let nodes = self.nodes.iter().filter(|node| sound(&node.spec.name));
        let configs = nodes.filter_map(|node| {
            let text = node.config.to_yaml().ok()?;
            // A finding may name the file that another one differs from: the same words in both sets.
            let own = node.spec.config.as_ref().map(|file| file.origin.clone());
            Some((own.unwrap_or_else(|| format!("machine config of {}", node.spec.name)), text))
        });
        let mut told = BTreeSet::new();
        let mut findings = Vec::new();
        // A patch alone may lack what another patch or the lab's own config has: what holds for the
        // whole is asked of the whole only.
        let whole = check(&ConfigSet::new(configs, schema));
        let part = check(&ConfigSet::new(parts, schema));
        let what = |finding: &Diagnostic| (finding.rule.clone(), finding.message.clone());
        let of_whole: BTreeSet<_> = whole.iter().map(what).collect();
        let brought: BTreeSet<_> = part.iter().map(what).collect();
        for finding in part.iter().filter(|finding| of_whole.contains(&what(finding))).chain(&whole) {
            if told.insert(what(finding)) {
                let mut finding = finding.clone();
                if !brought.contains(&what(&finding)) && !finding.file.starts_with("machine ") {
                    // Lines of what a node gets are not those of the file.
                    finding.file = format!("{} with its patches", finding.file);
                }
                findings.push(finding);
            }
        }
        findings
    }
}
