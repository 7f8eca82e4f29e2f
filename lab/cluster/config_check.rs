//! The rules of `lab config check` over what a plan would send to its nodes.

use std::collections::BTreeSet;

use super::plan::Plan;
use crate::lint::{ConfigSet, Finding, Schema, check};

impl Plan {
    /// What is wrong with the nodes' configs, each thing once: told of the patch that brings it, where
    /// one does, else of the node. Configs that a fault spoils on purpose are left out.
    pub fn config_findings(&self) -> Vec<Finding> {
        let schema = Schema::of(self.spec.talos_contract);
        let mut origins = BTreeSet::new();
        let patches = self.spec.nodes.iter().flat_map(|node| self.spec.patches_for(node));
        let patches = patches.filter(|patch| origins.insert(patch.origin.clone()));
        let patches: Vec<_> = patches.map(|patch| (patch.origin.clone(), patch.text.clone())).collect();
        let sound = |name: &crate::node::NodeName| self.faults.iter().all(|fault| fault.node() != name);
        let nodes = self.nodes.iter().filter(|node| sound(&node.spec.name));
        let configs = nodes.filter_map(|node| {
            let text = node.config.to_yaml().ok()?;
            Some((format!("machine config of {}", node.spec.name), text))
        });
        let mut told = BTreeSet::new();
        let mut findings = Vec::new();
        // A patch alone may lack what another patch or the lab's own config has: what holds for the
        // whole is asked of the whole only.
        let whole = check(&ConfigSet::new(configs, schema));
        let part = check(&ConfigSet::new(patches, schema));
        let of_whole: BTreeSet<_> =
            whole.iter().map(|finding| (finding.rule, finding.message.clone())).collect();
        for finding in
            part.iter().filter(|f| of_whole.contains(&(f.rule, f.message.clone()))).chain(whole.iter())
        {
            if told.insert((finding.rule, finding.message.clone())) {
                findings.push(finding.clone());
            }
        }
        findings
    }
}
