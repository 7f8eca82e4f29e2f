//! Every program of a node image is for arm64.

use std::collections::BTreeMap;

use super::{Looked, Rule, looked::some_of};
use crate::evidence::{Evidence, FailureKind};

pub(super) const RULE: Rule = Rule {
    name: "architecture",
    holds: "every program of a node image is for arm64, and its config says so",
    subjects: "programs",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for node in &evidence.nodes {
        if let Err(failure) = &node.facts
            && failure.kind == FailureKind::Platform
        {
            looked.error(&node.place(), &failure.cause, "build and push the image for linux/arm64");
        }
    }
    for (node, facts) in evidence.node_contents() {
        looked.subjects += facts.native + facts.foreign.len();
        let mut by_layer: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for file in &facts.foreign {
            by_layer.entry((&file.layer, &file.machine)).or_default().push(&file.path);
        }
        for ((layer, machine), paths) in by_layer {
            let place = format!("{}, layer {layer}", node.place());
            let cause = format!("{} is for {machine}: exec format error at run time", some_of(&paths));
            looked.error(&place, cause, "take the arm64 build of the extension or program in this layer");
        }
        if let Some(named) =
            facts.origin.architecture.as_deref().filter(|named| !["", "arm64"].contains(named))
        {
            let cause = format!("its config says {named}, and its kernel is for arm64");
            looked.warning(
                &node.place(),
                cause,
                "push it with --platform linux/arm64, else others will not find it",
            );
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::elf;

    use super::*;
    use crate::rules::fixture::{self, Node};

    #[test]
    fn an_image_with_arm64_programs_alone_passes() {
        let evidence = fixture::evidence(vec![Node::new("compute").root("usr/bin/tool", &elf(183)).read()]);
        let looked = look(&evidence);
        assert!(looked.subjects >= 2 && looked.findings.is_empty(), "{looked:?}");
    }

    #[test]
    fn an_amd64_program_of_an_extension_is_told_with_its_layer() {
        let node = Node::new("compute").extension("name: x, version: v1", &[("opt/x/bin/tool", &elf(62))]);
        let expected = "compute (compute/metal image), layer 0.sqsh: opt/x/bin/tool is for amd64: exec format error at run time";
        assert_eq!(fixture::found(&RULE, &fixture::evidence(vec![node.read()])), [expected]);
    }
}
