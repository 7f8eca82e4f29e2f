//! Asks registries what they have under the references of texts, under `latest`, and under the tag of the release before.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use lab_model::{
    Source,
    reference::{is_below, is_reference, name_and_tag, name_of},
};
use lab_oci::images::{OciError, Remote};

use crate::{
    evidence::{Answer, Evidence, Mentioned},
    gate::GateOptions,
};

/// How many questions are asked at once, and at most.
const AT_ONCE: usize = 8;
const MOST: usize = 5000;

pub(super) async fn answers(
    evidence: &Evidence,
    options: &GateOptions<'_>,
    tell: &dyn Fn(String),
) -> BTreeMap<String, Answer> {
    let questions = questions(evidence);
    if !questions.is_empty() {
        tell(format!("asking registries about {} references", questions.len()));
    }
    let known: BTreeMap<_, _> = evidence
        .read_containers()
        .map(|(container, facts)| (container.source.clone(), Answer::Has(facts.image.digest.clone())))
        .collect();
    let asks = questions.into_iter().take(MOST).filter(|question| !known.contains_key(question));
    let asks = asks.map(|question| async move {
        let answer = ask(&question, options).await;
        (question, answer)
    });
    let asked: Vec<_> = futures::stream::iter(asks).buffer_unordered(AT_ONCE).collect().await;
    known.into_iter().chain(asked).collect()
}

/// The references to ask about: the tags `latest` and of the release before, of all parts in the registry of the release,
/// and the references of texts in its registries. A release that names no registry has those of its parts.
fn questions(evidence: &Evidence) -> BTreeSet<String> {
    let release = &evidence.release;
    let nodes = evidence.nodes.iter().map(|node| node.source.as_str());
    let parts = nodes.chain(evidence.containers.iter().map(|container| container.source.as_str()));
    let parts: Vec<_> = parts.filter(|part| is_reference(part)).collect();
    let own: BTreeSet<&str> = match &release.registry {
        Some(registry) => [registry.as_str()].into(),
        None => parts.iter().filter_map(|part| Some(name_of(part).rsplit_once('/')?.0)).collect(),
    };
    let is_own = |name: &str| own.iter().any(|registry| is_below(name, registry));
    let is_known =
        |name: &str| is_own(name) || release.also_from.iter().any(|registry| is_below(name, registry));
    let mut questions = BTreeSet::new();
    for part in &parts {
        let Some((name, tag)) = name_and_tag(part).filter(|(name, _)| is_own(name)) else { continue };
        questions.insert(format!("{name}:latest"));
        questions.extend(evidence.previous_tag(tag).map(|before| format!("{name}:{before}")));
    }
    for mention in evidence.texts.iter().flat_map(|text| text.mentions.iter().flatten()) {
        let Mentioned::Reference(reference) = &mention.what else { continue };
        if !is_known(name_of(reference)) {
            continue;
        }
        let tagged = reference.split_once('@').map_or(reference.as_str(), |(tagged, _)| tagged);
        let asked = if name_and_tag(tagged).is_some() { tagged } else { reference };
        questions.insert(asked.to_owned());
    }
    questions
}

async fn ask(question: &str, options: &GateOptions<'_>) -> Answer {
    let reference = match Source::parse(question) {
        Ok(Source::Registry(reference)) => reference,
        Ok(Source::Path(_)) => return Answer::Missing,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let remote = match Remote::new(&reference, options.looker.manifests()) {
        Ok(remote) => remote,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    match remote.ask().await {
        Ok(digest) => Answer::Has(digest),
        Err(OciError::NotInRegistry { .. }) => Answer::Missing,
        Err(error) => Answer::Unknown(error.to_string()),
    }
}
