//! An extension has one version and one content in all images of a variant, and is in an image once.

use std::collections::BTreeMap;

use super::{Looked, Rule};
use crate::evidence::{Evidence, NodeEvidence, NodeFacts};

pub(super) const RULE: Rule = Rule {
    name: "extension-versions",
    holds: "an extension is in an image once, and is the same in all roles of a variant",
    subjects: "extensions",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let contents = evidence.node_contents();
    for (node, facts) in &contents {
        looked.subjects += facts.inspection.contents.extensions.len();
        twice(&mut looked, node, facts);
    }
    let mut first: BTreeMap<(&str, &str), (&NodeEvidence, &NodeFacts)> = BTreeMap::new();
    for (node, facts) in contents {
        for extension in &facts.inspection.contents.extensions {
            let (base, base_facts) = first.entry((&node.variant, &extension.name)).or_insert((node, facts));
            let same =
                base_facts.inspection.contents.extensions.iter().find(|other| other.name == extension.name);
            let Some(other) = same.filter(|_| !std::ptr::eq(*base, node)) else { continue };
            let place = format!("{}, extension {}", node.place(), extension.name);
            let layers =
                (facts.inspection.layer(&extension.layer), base_facts.inspection.layer(&other.layer));
            if other.version != extension.version {
                let cause =
                    format!("has version {}, and {} has {}", extension.version, base.place(), other.version);
                looked.error(&place, cause, "build all roles of a variant with the same extensions");
            } else if let (Some(mine), Some(theirs)) = layers
                && !mine.has_same_files(theirs)
            {
                let cause = format!(
                    "has other files than in {}, under the same version {}",
                    base.place(),
                    other.version
                );
                looked.error(
                    &place,
                    cause,
                    "build all roles from the same images of the extensions, by digest",
                );
            }
        }
    }
    looked
}

/// The same extension under two names.
fn twice(looked: &mut Looked, node: &NodeEvidence, facts: &NodeFacts) {
    let extensions = &facts.inspection.contents.extensions;
    for (number, extension) in extensions.iter().enumerate() {
        let Some(layer) = facts.inspection.layer(&extension.layer) else { continue };
        let same = extensions[..number].iter().find(|other| {
            let other = facts.inspection.layer(&other.layer);
            // Empty layers are the same and mean nothing.
            other.is_some_and(|other| other.bytes == layer.bytes && other.has_same_files(layer))
                && layer
                    .open()
                    .and_then(|mut squashfs| squashfs.files_under(""))
                    .is_ok_and(|files| !files.is_empty())
        });
        if let Some(other) = same {
            let place = format!("{}, layer {}", node.place(), extension.layer);
            let cause = format!(
                "the extension {} has the same files as {} ({})",
                extension.name, other.name, other.layer
            );
            looked.error(&place, cause, "name the extension once in the profile of the image");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{self, Node};

    fn node(role: &str, version: &str, content: &[u8]) -> Node {
        let metadata = format!("name: spin, version: {version}");
        Node::new(role).extension(&metadata, &[("usr/local/bin/x", content)])
    }

    fn found(nodes: Vec<Node>) -> Vec<String> {
        fixture::found(&RULE, &fixture::evidence(nodes.into_iter().map(Node::read).collect()))
    }

    #[test]
    fn roles_with_the_same_extension_pass_although_it_was_squashed_twice() {
        assert_eq!(
            found(vec![node("compute", "v1", b"x"), node("gateway", "v1", b"x").squashed_at(9)]),
            [""; 0]
        );
    }

    #[test]
    fn another_version_and_other_files_are_told_with_both_images() {
        let versions = found(vec![node("compute", "v1", b"x"), node("gateway", "v2", b"x")]);
        let expected = "gateway (gateway/metal image), extension spin: has version v2, and compute (compute/metal image) has v1";
        assert_eq!(versions, [expected]);
        let files = found(vec![node("compute", "v1", b"x"), node("gateway", "v1", b"y")]);
        assert!(files[0].contains("has other files than in compute (compute/metal image)"), "{files:?}");
    }

    #[test]
    fn the_same_extension_under_two_names_is_told() {
        let twice =
            node("compute", "v1", b"x").extension("name: spin2, version: v1", &[("usr/local/bin/x", b"x")]);
        let expected = "compute (compute/metal image), layer 1.sqsh: the extension spin2 has the same files as spin (0.sqsh)";
        assert_eq!(found(vec![twice]), [expected]);
    }
}
