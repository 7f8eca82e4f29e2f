//! A tag of the release names a build of this release, and not an older one: what the release before has under its tag,
//! or an old build that `latest` still names.

use lab_model::Digest;

use super::{Looked, Rule, age::days_old};
use crate::evidence::{Answer, Evidence};

pub(super) const RULE: Rule = Rule {
    name: "stale-tag",
    holds: "no tag of the release is an alias of an older tag or of a stale latest",
    subjects: "tags",
    look,
};

struct Tagged<'a> {
    place: String,
    source: &'a str,
    digest: &'a Digest,
    created: Option<&'a str>,
    is_node: bool,
}

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let nodes = evidence.nodes.iter().filter_map(|node| {
        let facts = node.facts.as_ref().ok()?;
        let (digest, created) = (facts.origin.digest.as_ref()?, facts.origin.created.as_deref());
        Some(Tagged { place: node.place(), source: &node.source, digest, created, is_node: true })
    });
    let containers = evidence.read_containers().map(|(container, facts)| Tagged {
        place: container.source.clone(),
        source: &container.source,
        digest: &facts.image.digest,
        created: facts.image.created.as_deref(),
        is_node: false,
    });
    for tagged in nodes.chain(containers) {
        let Some((name, tag)) = lab_model::reference::name_and_tag(tagged.source) else { continue };
        looked.at_one();
        latest(&mut looked, evidence, &tagged, name, tag);
        before(&mut looked, evidence, &tagged, name, tag);
    }
    looked
}

fn latest(looked: &mut Looked, evidence: &Evidence, tagged: &Tagged<'_>, name: &str, tag: &str) {
    let latest = format!("{name}:latest");
    let same = evidence.answers.get(&latest) == Some(&Answer::Has(tagged.digest.clone()));
    if !same || tag == "latest" {
        return;
    }
    let most = evidence.release.age.as_secs() / (24 * 60 * 60);
    if let Some(days) = days_old(tagged.created, evidence).filter(|days| *days > most) {
        let cause = format!("is what latest names, a build of {days} days ago");
        looked.error(
            &tagged.place,
            cause,
            "the tag was set to a stale latest: push the build of this release",
        );
    }
}

fn before(looked: &mut Looked, evidence: &Evidence, tagged: &Tagged<'_>, name: &str, tag: &str) {
    let older = evidence.previous_tag(tag);
    let by_tag = older.filter(|older| {
        evidence.answers.get(&format!("{name}:{older}")) == Some(&Answer::Has(tagged.digest.clone()))
    });
    let by_ledger =
        evidence.before.iter().filter(|ledger| ledger.release != evidence.release.name).find_map(|ledger| {
            let part = ledger
                .parts
                .iter()
                .find(|part| part.digest.as_deref() == Some(&tagged.digest.to_string()))?;
            (part.source != tagged.source).then(|| part.source.clone())
        });
    let Some(other) = by_tag.map(|older| format!("{name}:{older}")).or(by_ledger) else { return };
    let cause = format!("has the digest of {other} of the release before");
    if tagged.is_node {
        looked.error(
            &tagged.place,
            cause,
            "the tag is an alias of an older build: push the build of this release",
        );
    } else {
        looked.warning(&tagged.place, cause, "this is right if nothing in the image has changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture::{self, Node};

    const OLD: &str = "2026-01-02T03:04:05Z";

    fn evidence(tag: &str, of: &str, created: &str) -> Evidence {
        let node = Node::new("compute").source("ghcr.io/you/talos:v1.5.1-1.13.5-4").created(created).read();
        let mut evidence = fixture::evidence(vec![node]);
        evidence.release.previous = Some("v1.5.1-1.13.5-3".into());
        let digest = Digest::of_bytes(of.as_bytes());
        evidence.answers.insert(format!("ghcr.io/you/talos:{tag}"), Answer::Has(digest));
        evidence
    }

    #[test]
    fn a_fresh_build_passes_whether_latest_names_it_or_not() {
        assert_eq!(fixture::found(&RULE, &evidence("latest", "other", OLD)), [""; 0]);
        // The fixture has the digest of its source.
        let fresh = evidence("latest", "ghcr.io/you/talos:v1.5.1-1.13.5-4", "2026-05-30T00:00:00Z");
        assert_eq!((look(&fresh).subjects, fixture::found(&RULE, &fresh).len()), (1, 0));
        assert_eq!(fixture::found(&RULE, &evidence("v1.5.1-1.13.5-3", "other", OLD)), [""; 0]);
    }

    #[test]
    fn an_alias_of_a_stale_latest_and_of_the_release_before_is_told() {
        let stale = fixture::found(&RULE, &evidence("latest", "ghcr.io/you/talos:v1.5.1-1.13.5-4", OLD));
        assert_eq!(
            stale,
            [
                "ghcr.io/you/talos:v1.5.1-1.13.5-4 (compute/metal image): is what latest names, a build of 149 days ago"
            ]
        );
        let older = fixture::found(
            &RULE,
            &evidence("v1.5.1-1.13.5-3", "ghcr.io/you/talos:v1.5.1-1.13.5-4", "2026-05-30T00:00:00Z"),
        );
        assert!(
            older[0].ends_with("has the digest of ghcr.io/you/talos:v1.5.1-1.13.5-3 of the release before"),
            "{older:?}"
        );
    }
}
