//! The release is newer than the one before, and its parts have its tag.

use super::{Looked, Rule};
use crate::{evidence::Evidence, release::ReleaseTag};

pub(super) const RULE: Rule = Rule {
    name: "revision",
    holds: "the release is newer than the one before, and the tags of its parts are of this release",
    subjects: "tags",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let release = &evidence.release;
    let Some(own) = &release.tag else { return looked };
    let named = release.previous.as_deref();
    for before in named.into_iter().chain(evidence.before.as_ref().map(|ledger| ledger.release.as_str())) {
        looked.at_one();
        let Some(other) = ReleaseTag::parse(before).map(|tag| tag.release()) else { continue };
        // A gate may run again with its own ledger.
        if *own < other || (*own == other && Some(before) == named) {
            let cause = format!("{own} is not newer than {other}, the release before");
            looked.error(&release.file, cause, "count the revision up, and never release a version twice");
        }
    }
    let nodes = evidence.nodes.iter().map(|node| (node.place(), node.source.as_str()));
    let containers = evidence.containers.iter().map(|one| (one.source.clone(), one.source.as_str()));
    for (place, source) in nodes.chain(containers) {
        let tag = lab_model::reference::name_and_tag(source).and_then(|(_, tag)| ReleaseTag::parse(tag));
        let Some(tag) = tag else { continue };
        looked.at_one();
        if tag.release() != *own {
            let cause = format!("has the tag {tag}, and the release is {own}");
            looked.error(&place, cause, "name the images of this release");
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{self, Node};

    fn found(source: &str, previous: &str) -> Vec<String> {
        let mut evidence = fixture::evidence(vec![Node::new("compute").source(source).read()]);
        evidence.release.previous = Some(previous.to_owned());
        fixture::found(&RULE, &evidence)
    }

    #[test]
    fn a_higher_revision_passes_also_when_its_text_is_smaller() {
        assert_eq!(found("ghcr.io/you/talos:v1.5.1-1.13.5-4-rpi5", "v1.5.1-1.13.5-3"), [""; 0]);
        assert_eq!(found("ghcr.io/you/talos:v1.5.1-1.13.5-4", "v1.5.1-1.9.10-12"), [""; 0]);
    }

    #[test]
    fn a_revision_that_went_backwards_and_a_part_of_another_release_are_told() {
        let backwards = found("ghcr.io/you/talos:v1.5.1-1.13.5-4", "v1.5.1-1.13.5-10");
        assert_eq!(
            backwards,
            ["release.yaml: v1.5.1-1.13.5-4 is not newer than v1.5.1-1.13.5-10, the release before"]
        );
        let other = found("ghcr.io/you/talos:v1.5.1-1.13.5-2", "v1.5.1-1.13.5-3");
        assert!(
            other[0].ends_with("has the tag v1.5.1-1.13.5-2, and the release is v1.5.1-1.13.5-4"),
            "{other:?}"
        );
    }
}
