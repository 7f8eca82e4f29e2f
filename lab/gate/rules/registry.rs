//! All images come from the registry of the release, or from those that it names.

use lab_model::reference::{is_below, is_reference, name_of};

use super::{Looked, Rule};
use crate::evidence::{Evidence, Mentioned};

pub(super) const RULE: Rule = Rule {
    name: "registry",
    holds: "every image comes from the registries that the release names",
    subjects: "references",
    look,
};

const REMEDY: &str = "push the image to the registry of the release, or name its registry in alsoFrom";

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let release = &evidence.release;
    let Some(own) = &release.registry else { return looked };
    let allowed: Vec<_> = std::iter::once(own).chain(&release.also_from).collect();
    let is_allowed = |name: &str| allowed.iter().any(|registry| is_below(name, registry));
    let nodes = evidence.nodes.iter().map(|node| (node.place(), &node.source));
    let containers = evidence
        .containers
        .iter()
        .map(|one| (format!("{} (named by {})", one.source, one.named_by), &one.source));
    for (place, source) in nodes.chain(containers).filter(|(_, source)| is_reference(source)) {
        looked.at_one();
        if !is_allowed(name_of(source)) {
            looked.error(&place, format!("is not below {own}"), REMEDY);
        }
    }
    // A document may name images of others. It must not name an image of the release in another registry.
    let parts: Vec<_> = evidence
        .nodes
        .iter()
        .map(|node| &node.source)
        .chain(evidence.containers.iter().map(|one| &one.source))
        .collect();
    let own_names: Vec<_> = parts
        .iter()
        .filter_map(|source| name_of(source).strip_prefix(own.as_str())?.strip_prefix('/'))
        .collect();
    for text in evidence.texts.iter().filter(|text| !text.is_manifest) {
        for mention in text.mentions.iter().flatten() {
            let Mentioned::Reference(reference) = &mention.what else { continue };
            looked.at_one();
            let name = name_of(reference);
            let elsewhere =
                own_names.iter().find(|own| name.strip_suffix(**own).is_some_and(|host| host.ends_with('/')));
            if let Some(image) = elsewhere.filter(|_| !is_allowed(name)) {
                let cause = format!("names {name}, and the release has {own}/{image}");
                looked.error_at(&text.file, mention.position, cause, "write the reference of the release");
            }
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture;

    fn found(source: &str, document: &str) -> Vec<String> {
        let mut evidence = fixture::evidence(Vec::new());
        evidence.release.registry = Some("ghcr.io/you".into());
        evidence.release.also_from = vec!["registry.k8s.io".into()];
        evidence.containers.push(fixture::container(source, &[], &[]));
        evidence.texts.push(fixture::document("a.md", document));
        fixture::found(&RULE, &evidence)
    }

    #[test]
    fn own_and_named_registries_pass() {
        assert_eq!(found("ghcr.io/you/api:v1", "ghcr.io/you/api:v1 and docker.io/library/alpine:3"), [""; 0]);
        assert_eq!(found("registry.k8s.io/pause:3.10", ""), [""; 0]);
    }

    #[test]
    fn another_registry_is_told_also_when_its_name_begins_alike() {
        assert_eq!(
            found("ghcr.io/younger/api:v1", ""),
            ["ghcr.io/younger/api:v1 (named by release.yaml:1): is not below ghcr.io/you"]
        );
        let document = found("ghcr.io/you/api:v1", "docker.io/fork/api:v1");
        assert_eq!(document, ["a.md:1:1: names docker.io/fork/api, and the release has ghcr.io/you/api"]);
    }
}
