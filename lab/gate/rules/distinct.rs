//! Two roles or variants are two images. The same content under two names means that one build was pushed twice.

use super::{Looked, Rule};
use crate::evidence::Evidence;

pub(super) const RULE: Rule = Rule {
    name: "distinct",
    holds: "each role and each variant has its own image",
    subjects: "node images",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let contents = evidence.node_contents();
    for (number, (node, facts)) in contents.iter().enumerate() {
        looked.at_one();
        let same = contents[..number].iter().find(|(other, others)| {
            let same = facts.origin.digest.is_some() && others.origin.digest == facts.origin.digest;
            let other_part = (&other.role, &other.variant) != (&node.role, &node.variant);
            other_part && (same || others.inspection.digest == facts.inspection.digest)
        });
        if let Some((other, _)) = same {
            let cause = format!("has the same kernel and initramfs as {}", other.place());
            looked.error(
                &node.place(),
                cause,
                "one build was pushed under both names: build and push the other",
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
        fixture::found(&RULE, &fixture::evidence(nodes.into_iter().map(Node::read).collect()))
    }

    #[test]
    fn two_roles_with_their_own_images_and_two_forms_of_one_pass() {
        let gateway = Node::new("gateway").extension("name: tailscale, version: v1", &[]);
        assert_eq!(found(vec![Node::new("compute"), Node::new("compute").form(Form::Raw), gateway]), [""; 0]);
    }

    #[test]
    fn one_build_under_two_roles_is_told() {
        let expected = "gateway (gateway/metal image): has the same kernel and initramfs as compute (compute/metal image)";
        assert_eq!(found(vec![Node::new("compute"), Node::new("gateway")]), [expected]);
    }
}
