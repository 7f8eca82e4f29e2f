//! Looks at the container images that a release lists, and at those that its manifests and packages name.

use std::collections::BTreeMap;

use futures::StreamExt;
use lab_model::Source;

use crate::{
    evidence::{ContainerEvidence, ContainerFacts, Evidence, Failure, FailureKind, Mentioned},
    gate::GateOptions,
};

/// How many images are looked at once. The reader bounds the layers.
const AT_ONCE: usize = 4;

pub(super) async fn containers(
    evidence: &Evidence,
    options: &GateOptions<'_>,
    tell: &dyn Fn(String),
) -> Vec<ContainerEvidence> {
    let release = &evidence.release;
    // Each image once, where it is first named.
    let mut named: BTreeMap<String, (Result<Source, String>, String)> = BTreeMap::new();
    for listed in &release.containers {
        let by = format!("{}:{}", release.file, listed.position.line);
        named.entry(listed.source.to_string()).or_insert_with(|| (Ok(listed.source.clone()), by));
    }
    for text in evidence.texts.iter().filter(|text| text.is_manifest) {
        for mention in text.mentions.iter().flatten() {
            if let Mentioned::Reference(reference) = &mention.what {
                let by = format!("{}:{}", text.file, mention.position.line);
                let source = || Source::parse(reference).map_err(|error| error.to_string());
                named.entry(reference.clone()).or_insert_with(|| (source(), by));
            }
        }
    }
    let looks = named.into_iter().map(|(name, (source, named_by))| async move {
        let facts = match source {
            Ok(source) => look(&source, options).await,
            Err(cause) => Err(Failure { kind: FailureKind::Damaged, cause }),
        };
        tell(format!("container image {name}"));
        ContainerEvidence { source: name, named_by, facts }
    });
    let mut found: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    found.sort_by(|one, other| one.source.cmp(&other.source));
    found
}

async fn look(source: &Source, options: &GateOptions<'_>) -> Result<ContainerFacts, Failure> {
    let mut image = options.looker.look(source).await?;
    let programs = image.programs();
    // The lists of the layers are large, and nothing needs them any more.
    image.layers = Vec::new();
    Ok(ContainerFacts { programs, image })
}
