//! Every kernel module can be found by its name, and so can the modules that it needs.

use std::collections::BTreeMap;

use super::{Looked, Rule, looked::some_of};
use crate::evidence::{Evidence, NodeEvidence, NodeFacts};

pub(super) const RULE: Rule = Rule {
    name: "module-dependencies",
    holds: "every kernel module is listed in modules.dep, and the modules that it needs exist",
    subjects: "modules",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for (node, facts) in evidence.node_contents() {
        dependencies(&mut looked, node, facts);
    }
    looked
}

fn dependencies(looked: &mut Looked, node: &NodeEvidence, facts: &NodeFacts) {
    let modules = &facts.modules;
    let release = facts.inspection.kernel.release.as_deref().unwrap_or("its kernel");
    let mut needs: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let mut unlisted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, module) in modules.read() {
        looked.at_one();
        for need in module.depends.iter().filter(|need| !modules.has(need)) {
            needs.entry((&file.layer, need)).or_default().push(&file.path);
        }
        if modules.listed.as_ref().is_some_and(|listed| !listed.contains(&module.name)) {
            unlisted.entry(&file.layer).or_default().push(&file.path);
        }
    }
    for ((layer, need), paths) in needs {
        let place = format!("{}, layer {layer}", node.place());
        let cause =
            format!("{} needs the module {need}, which is neither a file nor built in", some_of(&paths));
        looked.error(&place, cause, "add the extension that brings it, or build it into the kernel");
    }
    for (layer, paths) in unlisted {
        let place = format!("{}, layer {layer}", node.place());
        let cause = format!(
            "modules.dep of {release} does not list {}, so the node will say \"module not found\"",
            some_of(&paths)
        );
        looked.error(&place, cause, "let the imager write modules.dep for all extensions, or run depmod");
    }
    if modules.listed.is_none() && !modules.files.is_empty() {
        let cause = format!("there is no modules.dep for {release}, so the node finds no module by name");
        looked.error(&node.place(), cause, "run depmod for the root and its extensions");
    }
    if modules.built_in.is_none() && !modules.files.is_empty() {
        let cause =
            format!("there is no modules.builtin for {release}, so built-in modules count as missing");
        looked.warning(&node.place(), cause, "keep modules.builtin of the kernel's build in the root");
    }
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::module;

    use super::*;
    use crate::rules::fixture::{self, Node, RELEASE, VERMAGIC};

    fn node(depends: &[&str], listed: &str) -> Node {
        let directory = format!("usr/lib/modules/{RELEASE}");
        let drbd = module("drbd", VERMAGIC, depends, &[]);
        Node::new("compute").extension(
            "name: drbd, version: v9",
            &[
                (&format!("{directory}/extra/drbd.ko"), &drbd),
                (&format!("{directory}/modules.dep"), listed.as_bytes()),
            ],
        )
    }

    fn found(node: Node) -> Vec<String> {
        fixture::found(&RULE, &fixture::evidence(vec![node.read()]))
    }

    #[test]
    fn needs_that_are_files_or_built_in_are_met() {
        assert_eq!(
            found(node(&["base", "lru-cache"], "kernel/base.ko:\nextra/drbd.ko: kernel/base.ko\n")),
            [""; 0]
        );
    }

    #[test]
    fn a_need_that_nothing_has_and_a_module_that_is_not_listed_are_told() {
        let found = found(node(&["gone"], "kernel/base.ko:\n"));
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("drbd.ko needs the module gone"), "{found:?}");
        assert!(found[1].contains("does not list usr/lib/modules/6.12.5-talos/extra/drbd.ko"), "{found:?}");
    }

    #[test]
    fn an_image_without_the_lists_is_told() {
        let found = found(Node::new("compute").without("modules.dep").without("modules.builtin"));
        assert!(found[0].contains("there is no modules.dep"), "{found:?}");
        assert!(found[1].contains("there is no modules.builtin"), "{found:?}");
    }
}
