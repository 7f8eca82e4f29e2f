//! Every node image has the version of Talos that the release names.

use super::{Looked, Rule, extension_compatibility::version_of};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "talos-version",
    holds: "each node image has the version of Talos of the release",
    subjects: "node images",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let Some(wanted) = &evidence.release.talos else { return looked };
    for (node, facts) in evidence.node_contents() {
        looked.at_one();
        let named = facts.inspection.contents.node_version.as_deref();
        match (version_of(facts), named) {
            (Some(version), _) if version == *wanted => {}
            (Some(version), _) => {
                let cause = format!("has Talos {version}, and the release has {wanted}");
                looked.error(
                    &node.place(),
                    cause,
                    "push the image of this release; the tag may name an older build",
                );
            }
            (None, named) => {
                let named = named.unwrap_or("nothing");
                let cause = format!("its os-release names {named}, and no version of Talos");
                looked.warning(&node.place(), cause, "name the image of a Talos node");
            }
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{self, Node};

    fn found(name: &str) -> Vec<String> {
        let text = format!("PRETTY_NAME=\"{name}\"\n");
        let node = Node::new("compute").root("etc/os-release", text.as_bytes());
        fixture::found(&RULE, &fixture::evidence(vec![node.read()]))
    }

    #[test]
    fn the_version_of_the_release_passes() {
        assert_eq!(found("Talos (v1.13.5)"), [""; 0]);
    }

    #[test]
    fn an_older_version_and_another_system_are_told() {
        assert_eq!(
            found("Talos (v1.12.7)"),
            ["compute (compute/metal image): has Talos 1.12.7, and the release has 1.13.5"]
        );
        assert!(found("Debian 13")[0].contains("names Debian 13, and no version of Talos"));
    }
}
