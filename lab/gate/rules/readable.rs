//! Every part of the release can be read. A part that nobody looked at is not a part that passed.

use super::{Looked, Rule};
use crate::evidence::{Evidence, Failure, FailureKind};

pub(super) const RULE: Rule = Rule {
    name: "readable",
    holds: "every part of the release exists and can be read",
    subjects: "parts",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for node in &evidence.nodes {
        looked.at_one();
        failed(&mut looked, &node.place(), node.facts.as_ref().err());
    }
    for container in &evidence.containers {
        looked.at_one();
        let place = format!("{} (named by {})", container.source, container.named_by);
        failed(&mut looked, &place, container.facts.as_ref().err());
    }
    for text in &evidence.texts {
        looked.at_one();
        if let Err(why) = &text.mentions {
            looked.error(&text.file, why, "make the file readable, or take it out of the release file");
        }
    }
    for config in &evidence.configs {
        looked.at_one();
        if let Err(why) = &config.modules {
            looked.error(&config.file, why, "correct the machine config; `lab config check` tells more");
        }
    }
    looked
}

fn failed(looked: &mut Looked, place: &str, failure: Option<&Failure>) {
    let Some(failure) = failure else { return };
    let remedy = match failure.kind {
        // The rules about architectures report it.
        FailureKind::Platform => return,
        FailureKind::Missing => "push the image, or correct the reference in the release file",
        FailureKind::Unreachable => {
            "run the gate where the registry can be reached, and log in if it asks for it"
        }
        FailureKind::Host => "free space on this host, or correct the path, and run the gate again",
        FailureKind::Damaged => "build and push the image again",
    };
    looked.error(place, &failure.cause, remedy);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::ConfigModules,
        rules::fixture::{self, Node},
    };

    #[test]
    fn a_release_whose_parts_can_be_read_passes() {
        let evidence = fixture::evidence(vec![Node::new("compute").read()]);
        let looked = look(&evidence);
        assert_eq!((looked.subjects, looked.findings.len()), (1, 0));
    }

    #[test]
    fn a_part_that_nobody_could_look_at_is_an_error() {
        let mut node = Node::new("compute").read();
        node.facts =
            Err(Failure { kind: FailureKind::Unreachable, cause: "no route to the registry".into() });
        let mut evidence = fixture::evidence(vec![node]);
        let role = evidence.nodes[0].role.clone();
        evidence.configs.push(ConfigModules {
            role,
            file: "node.yaml".into(),
            modules: Err("not YAML".into()),
        });
        let expected = ["compute (compute/metal image): no route to the registry", "node.yaml: not YAML"];
        assert_eq!(fixture::found(&RULE, &evidence), expected);
    }
}
