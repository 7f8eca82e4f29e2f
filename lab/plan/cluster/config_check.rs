//! Applies the rules of `lab config check` to the configs in a plan.

use std::collections::BTreeSet;

use lab_model::Diagnostic;

use super::plan::Plan;
use crate::lint::{ConfigSet, Schema, check};

impl Plan {
    /// Returns the findings for the nodes' configs, without duplicates. Each finding refers to the patch
    /// or user file that causes it, or else to the node. Skips configs that a fault corrupts on purpose.
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
            // A finding may name another file that differs. Both sets therefore use the same file names.
            let own = node.spec.config.as_ref().map(|file| file.origin.clone());
            Some((own.unwrap_or_else(|| format!("machine config of {}", node.spec.name)), text))
        });
        let mut told = BTreeSet::new();
        let mut findings = Vec::new();
        // A patch alone may lack values from another patch or the lab's config. Findings from the parts
        // therefore count only if the complete config has them too.
        let whole = check(&ConfigSet::new(configs, schema));
        let part = check(&ConfigSet::new(parts, schema));
        let what = |finding: &Diagnostic| (finding.rule.clone(), finding.message.clone());
        let of_whole: BTreeSet<_> = whole.iter().map(what).collect();
        let brought: BTreeSet<_> = part.iter().map(what).collect();
        for finding in part.iter().filter(|finding| of_whole.contains(&what(finding))).chain(&whole) {
            if told.insert(what(finding)) {
                let mut finding = finding.clone();
                if !brought.contains(&what(&finding)) && !finding.file.starts_with("machine ") {
                    // The line numbers of the final config differ from those of the file.
                    finding.file = format!("{} with its patches", finding.file);
                }
                findings.push(finding);
            }
        }
        findings
    }
}
