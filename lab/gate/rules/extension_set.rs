//! The image of a role has exactly the extensions that the release names for the role.

use super::{Looked, Rule};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "extension-set",
    holds: "each form of a role's image has exactly the extensions of the role",
    subjects: "images of roles with named extensions",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for node in &evidence.nodes {
        let (Ok(facts), Some(rule)) = (&node.facts, evidence.release.roles.get(&node.role)) else { continue };
        let Some(wanted) = &rule.extensions else { continue };
        looked.at_one();
        let has: Vec<_> = facts.inspection.contents.extensions.iter().map(|e| e.name.as_str()).collect();
        let missing: Vec<_> = wanted.iter().map(String::as_str).filter(|name| !has.contains(name)).collect();
        let extra: Vec<_> =
            has.iter().copied().filter(|name| !wanted.iter().any(|one| one == name)).collect();
        if !missing.is_empty() {
            let cause = format!("lacks the extension {} of the role {}", missing.join(", "), node.role);
            let remedy = "build the image with the extensions of its role; an upgrade with this image would remove them";
            looked.error(&node.place(), cause, remedy);
        }
        if !extra.is_empty() {
            let cause =
                format!("has the extension {}, which the role {} does not name", extra.join(", "), node.role);
            looked.error(
                &node.place(),
                cause,
                "take the image of the right role, or name the extension in `roles:`",
            );
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        release::Form,
        rules::fixture::{self, Node},
    };

    fn found(nodes: Vec<Node>) -> Vec<String> {
        let mut evidence = fixture::evidence(nodes.into_iter().map(Node::read).collect());
        fixture::name_extensions(&mut evidence, "compute", &["drbd", "spin"]);
        fixture::found(&RULE, &evidence)
    }

    fn node(names: &[&str]) -> Node {
        names.iter().fold(Node::new("compute"), |node, name| {
            node.extension(&format!("name: {name}, version: v1"), &[])
        })
    }

    #[test]
    fn exactly_the_named_extensions_pass() {
        assert_eq!(found(vec![node(&["spin", "drbd"])]), [""; 0]);
    }

    #[test]
    fn a_dropped_and_an_added_extension_are_told_for_each_form() {
        let found = found(vec![node(&["drbd", "spin"]), node(&["drbd", "tailscale"]).form(Form::Installer)]);
        let expected = [
            "compute (compute/metal installer): lacks the extension spin of the role compute",
            "compute (compute/metal installer): has the extension tailscale, which the role compute does not name",
        ];
        assert_eq!(found, expected);
    }
}
