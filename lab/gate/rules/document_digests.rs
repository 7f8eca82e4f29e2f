//! The digests and tags in documents and manifests are those of the registry, and of each other.

use std::collections::BTreeMap;

use lab_model::{
    Digest, Position,
    reference::{name_and_tag, name_of},
};

use super::{Looked, Rule};
use crate::evidence::{Answer, Evidence, Mentioned, TextEvidence};

pub(super) const RULE: Rule = Rule {
    name: "document-digests",
    holds: "digests and tags in documents and manifests are those of the registry",
    subjects: "references and digests in texts",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let known = known_digests(evidence);
    // The digest of each reference with a tag, where it was first named.
    let mut first: BTreeMap<String, (Digest, String)> = BTreeMap::new();
    for text in &evidence.texts {
        for mention in text.mentions.iter().flatten() {
            match &mention.what {
                Mentioned::Reference(reference) => {
                    looked.at_one();
                    one_digest(&mut looked, text, mention.position, reference, &mut first);
                    of_registry(&mut looked, evidence, text, mention.position, reference);
                }
                Mentioned::Digest(digest) => {
                    looked.at_one();
                    if !known.contains(digest) {
                        let cause = format!("{digest} is the digest of no part of the release");
                        let remedy = "write the digest of this release, or the name of the image with it";
                        looked.warning_at(&text.file, mention.position, cause, remedy);
                    }
                }
                Mentioned::Placeholder(_) | Mentioned::Unresolved(_) | Mentioned::MissingFile(_) => {}
            }
        }
    }
    looked
}

/// The digests of all parts, as references, as images and as files.
fn known_digests(evidence: &Evidence) -> Vec<Digest> {
    let nodes = evidence.nodes.iter().filter_map(|node| node.facts.as_ref().ok());
    let of_node = nodes.flat_map(|facts| {
        let files = facts.inspection.checksums.iter().filter_map(|file| file.digest.clone());
        facts.origin.digest.clone().into_iter().chain([facts.inspection.digest.clone()]).chain(files)
    });
    let of_container = evidence
        .read_containers()
        .flat_map(|(_, facts)| [facts.image.digest.clone(), facts.image.image.clone()]);
    of_node.chain(of_container).collect()
}

fn digest_in(reference: &str) -> Option<Digest> {
    Digest::parse(reference.split_once('@')?.1)
}

/// One name and tag has one digest in all texts.
fn one_digest(
    looked: &mut Looked,
    text: &TextEvidence,
    position: Position,
    reference: &str,
    first: &mut BTreeMap<String, (Digest, String)>,
) {
    let Some(digest) = digest_in(reference) else { return };
    let tagged = reference.split_once('@').map_or(reference, |(tagged, _)| tagged);
    if name_and_tag(tagged).is_none() {
        return;
    }
    let here = format!("{}:{}", text.file, position.line);
    let (other, place) = first.entry(tagged.to_owned()).or_insert_with(|| (digest.clone(), here));
    if *other != digest {
        let cause = format!("{tagged} has {digest} here, and {other} in {place}");
        looked.error_at(&text.file, position, cause, "write the digest of the release in both texts");
    }
}

fn of_registry(
    looked: &mut Looked,
    evidence: &Evidence,
    text: &TextEvidence,
    position: Position,
    reference: &str,
) {
    let tagged = reference.split_once('@').map_or(reference, |(tagged, _)| tagged);
    let digest = digest_in(reference);
    let mut error = |cause: String, remedy: &str| looked.error_at(&text.file, position, cause, remedy);
    let answer = |reference: &str| evidence.answers.get(reference);
    let by_tag = name_and_tag(tagged).and_then(|_| answer(tagged));
    match (by_tag, &digest) {
        (Some(Answer::Has(found)), Some(digest)) if found != digest => {
            error(
                format!("{tagged} is {found} in the registry, and {digest} here"),
                "write the digest of the registry, or push the image that the text names",
            );
        }
        (Some(Answer::Missing), _) => {
            error(format!("the registry has no {tagged}"), "push the image, or correct the reference");
        }
        (Some(Answer::Unknown(why)), _) => {
            error(
                format!("{tagged} could not be compared with its registry: {why}"),
                "run the gate where the registry can be reached",
            );
        }
        (Some(Answer::Has(_)), _) => {}
        (None, Some(digest)) => match answer(&format!("{}@{digest}", name_of(reference))) {
            Some(Answer::Missing) => {
                error(format!("the registry has no {reference}"), "write the digest of this release")
            }
            Some(Answer::Unknown(why)) => {
                error(
                    format!("{reference} could not be looked for: {why}"),
                    "run the gate where the registry can be reached",
                );
            }
            _ => {}
        },
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn found(texts: &[(&str, &str)], answers: &[(&str, Answer)]) -> Vec<String> {
        let mut evidence = fixture::evidence(Vec::new());
        evidence.texts = texts.iter().map(|(file, text)| fixture::document(file, text)).collect();
        evidence.answers =
            answers.iter().map(|(name, answer)| ((*name).to_owned(), answer.clone())).collect();
        fixture::found(&RULE, &evidence)
    }

    fn has(digest: &str) -> Answer {
        Answer::Has(Digest::parse(digest).expect("digest"))
    }

    #[test]
    fn texts_that_agree_with_the_registry_pass() {
        let reference = format!("use ghcr.io/you/api:v1@{A} here");
        assert_eq!(
            found(&[("a.md", &reference), ("b.md", &reference)], &[("ghcr.io/you/api:v1", has(A))]),
            [""; 0]
        );
    }

    #[test]
    fn another_digest_than_in_the_registry_and_in_another_document_is_told() {
        let (a, b) = (format!("x\nghcr.io/you/api:v1@{A}"), format!("ghcr.io/you/api:v1@{B}"));
        let found = found(&[("a.md", &a), ("b.md", &b)], &[("ghcr.io/you/api:v1", has(B))]);
        assert_eq!(found[0], format!("a.md:2:1: ghcr.io/you/api:v1 is {B} in the registry, and {A} here"));
        assert_eq!(found[1], format!("b.md:1:1: ghcr.io/you/api:v1 has {B} here, and {A} in a.md:2"));
    }

    #[test]
    fn a_missing_tag_and_an_unknown_answer_and_a_foreign_digest_are_told() {
        let missing = found(&[("a.md", "ghcr.io/you/api:v1")], &[("ghcr.io/you/api:v1", Answer::Missing)]);
        assert_eq!(missing, ["a.md:1:1: the registry has no ghcr.io/you/api:v1"]);
        let unknown = found(
            &[("a.md", "ghcr.io/you/api:v1")],
            &[("ghcr.io/you/api:v1", Answer::Unknown("no answer".into()))],
        );
        assert!(unknown[0].contains("could not be compared with its registry: no answer"), "{unknown:?}");
        let digest = format!("digest {A}");
        assert_eq!(
            found(&[("a.md", &digest)], &[]),
            [format!("a.md:1:8: {A} is the digest of no part of the release")]
        );
    }
}
