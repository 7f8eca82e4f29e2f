//! All forms of a node image are one build, and all roles of a variant have the same kernel and root.

use std::collections::BTreeMap;

use lab_model::node::Role;

use super::{Looked, Rule};
use crate::evidence::{Evidence, NodeEvidence, NodeFacts};

pub(super) const RULE: Rule = Rule {
    name: "one-build",
    holds: "all forms of a node image have the same kernel, root and extensions, and all roles of a variant the same kernel and root",
    subjects: "images that have a counterpart",
    look,
};

/// The layer with the root file system.
const ROOT: &str = "rootfs.sqsh";
/// The longest time between the builds of two forms of one image, in hours.
const HOURS: i64 = 24;

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let mut forms: BTreeMap<(&Role, &str), (&NodeEvidence, &NodeFacts)> = BTreeMap::new();
    let mut variants: BTreeMap<&str, (&NodeEvidence, &NodeFacts)> = BTreeMap::new();
    let read = evidence.nodes.iter().filter_map(|node| Some((node, node.facts.as_ref().ok()?)));
    for (node, facts) in read {
        match forms.get(&(&node.role, node.variant.as_str())) {
            Some((base, other)) => {
                looked.at_one();
                same_kernel_and_root(&mut looked, (node, facts), (base, other), "forms");
                same_extensions(&mut looked, (node, facts), (base, other));
                same_day(&mut looked, (node, facts), (base, other));
            }
            None => {
                forms.insert((&node.role, &node.variant), (node, facts));
                match variants.get(node.variant.as_str()) {
                    Some((base, other)) => {
                        looked.at_one();
                        same_kernel_and_root(&mut looked, (node, facts), (base, other), "roles");
                    }
                    None => {
                        variants.insert(&node.variant, (node, facts));
                    }
                }
            }
        }
    }
    looked
}

type Seen<'a> = (&'a NodeEvidence, &'a NodeFacts);

fn same_kernel_and_root(looked: &mut Looked, (node, facts): Seen<'_>, (base, other): Seen<'_>, what: &str) {
    let remedy = format!("build all {what} from one kernel and one root, and push them together");
    if facts.inspection.kernel_digest != other.inspection.kernel_digest {
        let name = |facts: &NodeFacts| {
            facts.inspection.kernel_version.clone().unwrap_or_else(|| "unknown".to_owned())
        };
        let (mine, theirs) = (name(facts), name(other));
        let cause = if mine == theirs {
            format!("has another build of the kernel {mine} than {}", base.place())
        } else {
            format!("has the kernel {mine}, and {} has {theirs}", base.place())
        };
        looked.error(&node.place(), cause, &remedy);
    }
    let same = match (facts.inspection.layer(ROOT), other.inspection.layer(ROOT)) {
        (Some(mine), Some(theirs)) => mine.has_same_files(theirs),
        (mine, theirs) => mine.is_none() && theirs.is_none(),
    };
    if !same {
        looked.error(&node.place(), format!("has another root file system than {}", base.place()), &remedy);
    }
}

fn same_extensions(looked: &mut Looked, (node, facts): Seen<'_>, (base, other): Seen<'_>) {
    let names = |facts: &NodeFacts| {
        let mut names: Vec<_> = facts.inspection.contents.extensions.iter().map(|e| e.name.clone()).collect();
        names.sort();
        names
    };
    let (mine, theirs) = (names(facts), names(other));
    if mine != theirs {
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let cause = format!("has the extensions {}, and {} has {}", list(&mine), base.place(), list(&theirs));
        looked.error(&node.place(), cause, "build all forms from one profile");
    }
}

fn same_day(looked: &mut Looked, (node, facts): Seen<'_>, (base, other): Seen<'_>) {
    let created = |facts: &NodeFacts| facts.origin.created.as_deref()?.parse::<jiff::Timestamp>().ok();
    let (Some(mine), Some(theirs)) = (created(facts), created(other)) else { return };
    // Reproducible builds use the start of the epoch.
    let apart = mine.duration_since(theirs).as_hours().abs();
    if mine.as_second() > 0 && theirs.as_second() > 0 && apart > HOURS {
        let cause = format!("was built {apart} hours apart from {}", base.place());
        looked.warning(&node.place(), cause, "push all forms of one build together");
    }
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::kernel_with;

    use super::*;
    use crate::{
        release::Form,
        rules::fixture::{self, KEY, Node, RELEASE},
    };

    fn found(nodes: Vec<Node>) -> Vec<String> {
        fixture::found(&RULE, &fixture::evidence(nodes.into_iter().map(Node::read).collect()))
    }

    #[test]
    fn forms_and_roles_of_one_build_pass() {
        let nodes = vec![
            Node::new("compute"),
            Node::new("compute").form(Form::Installer),
            Node::new("gateway").extension("name: tailscale, version: v1", &[]),
        ];
        assert_eq!(found(nodes), [""; 0]);
    }

    #[test]
    fn another_kernel_root_and_extensions_of_a_form_are_told() {
        let mut kernel = kernel_with(RELEASE, &[&KEY]);
        kernel.push(1);
        let nodes = vec![
            Node::new("compute"),
            Node::new("compute").form(Form::Matchbox).kernel(kernel),
            Node::new("compute").form(Form::Raw).root("etc/x", b"x").extension("name: x, version: v1", &[]),
        ];
        let expected = [
            "compute (compute/metal matchbox): has another build of the kernel 6.12.5-talos than compute (compute/metal image)",
            "compute (compute/metal raw): has another root file system than compute (compute/metal image)",
            "compute (compute/metal raw): has the extensions x, and compute (compute/metal image) has none",
        ];
        assert_eq!(found(nodes), expected);
    }

    #[test]
    fn roles_of_a_variant_with_two_kernels_and_forms_built_days_apart_are_told() {
        let kernel = kernel_with("6.12.6-talos", &[&KEY]);
        let roles = found(vec![Node::new("compute"), Node::new("gateway").kernel(kernel)]);
        assert_eq!(
            roles,
            [
                "gateway (gateway/metal image): has the kernel 6.12.6-talos, and compute (compute/metal image) has 6.12.5-talos"
            ]
        );
        let days = vec![
            Node::new("compute").created("2026-05-01T00:00:00Z"),
            Node::new("compute").form(Form::Installer).created("2026-05-04T00:00:00Z"),
        ];
        assert_eq!(
            found(days),
            [
                "compute (compute/metal installer): was built 72 hours apart from compute (compute/metal image)"
            ]
        );
    }
}
