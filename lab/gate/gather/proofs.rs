//! Fetches the signatures and attestations of all parts: by the tags that cosign writes (`sha256-HEX.sig`, `.att`), and
//! by the list of referrers of the registry.

use std::collections::BTreeMap;

use futures::StreamExt;
use lab_model::{Digest, Source, files::read_bounded};
use lab_oci::images::{Descriptor, OciError, Remote};

use super::signed::{PublicKey, verify_signature, verify_statement};
use crate::{
    evidence::{Evidence, Proof, ProofEvidence, ProofKind},
    gate::GateOptions,
};

const AT_ONCE: usize = 4;
/// The largest key, in bytes.
const KEY_LIMIT: u64 = 64 << 10;
/// The maximum number of signatures and attestations of a part.
const MOST: usize = 64;
/// The media types of cosign's payloads, of envelopes, and of bundles.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The annotation with the signature of a payload.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

pub(super) async fn proofs(
    evidence: &Evidence,
    options: &GateOptions<'_>,
    tell: &dyn Fn(String),
) -> Vec<ProofEvidence> {
    let Some(rule) = &evidence.release.provenance else { return Vec::new() };
    let key = read_bounded(&rule.key, KEY_LIMIT).map_err(|error| error.to_string());
    let key = key
        .and_then(|pem| PublicKey::parse(&pem))
        .map_err(|why| format!("the key {}: {why}", rule.key.display()));
    let parts = parts(evidence);
    tell(format!("signatures and attestations of {} parts", parts.len()));
    let key = &key;
    let looks = parts.into_iter().map(|(source, digest)| async move {
        let proofs = match key {
            Ok(key) => of_part(&source, &digest, key, options).await,
            Err(why) => Err(why.clone()),
        };
        ProofEvidence { source, proofs }
    });
    futures::stream::iter(looks).buffered(AT_ONCE).collect().await
}

/// The parts in registries, with their digests.
fn parts(evidence: &Evidence) -> BTreeMap<String, Digest> {
    let nodes = evidence
        .nodes
        .iter()
        .filter_map(|node| Some((node.source.clone(), node.facts.as_ref().ok()?.origin.digest.clone()?)));
    let containers = evidence
        .read_containers()
        .map(|(container, facts)| (container.source.clone(), facts.image.digest.clone()));
    nodes.chain(containers).collect()
}

async fn of_part(
    source: &str,
    digest: &Digest,
    key: &PublicKey,
    options: &GateOptions<'_>,
) -> Result<Vec<Proof>, String> {
    let Ok(Source::Registry(reference)) = Source::parse(source) else { return Ok(Vec::new()) };
    let found = async {
        let remote = Remote::new(&reference, options.looker.manifests())?;
        let mut proofs = Vec::new();
        for ending in ["sig", "att"] {
            if let Some(manifest) = remote.tag(&format!("sha256-{}.{ending}", digest.hex())).await? {
                take(&remote, &manifest, key, digest, &mut proofs).await?;
            }
        }
        for referrer in remote.referrers(digest).await? {
            if let Some(manifest) = referrer.digest() {
                take(&remote, &manifest, key, digest, &mut proofs).await?;
            }
        }
        Ok::<_, OciError>(proofs)
    };
    found.await.map_err(|error| error.to_string())
}

/// Reads the signatures and attestations of a manifest.
async fn take(
    remote: &Remote,
    manifest: &Digest,
    key: &PublicKey,
    digest: &Digest,
    proofs: &mut Vec<Proof>,
) -> Result<(), OciError> {
    for layer in remote.layers(manifest).await? {
        let kind = layer.media_type.as_deref().unwrap_or_default();
        if proofs.len() >= MOST || !(kind == PAYLOAD || kind == ENVELOPE || kind.starts_with(BUNDLE)) {
            continue;
        }
        let text = remote.text(&layer).await?;
        proofs.push(proof(kind, &layer, &text, key, digest));
    }
    Ok(())
}

fn proof(kind: &str, layer: &Descriptor, text: &[u8], key: &PublicKey, digest: &Digest) -> Proof {
    if kind == PAYLOAD {
        let signature = layer.annotations.get(SIGNATURE).map(String::as_str);
        let verified = verify_signature(key, text, signature, digest);
        return Proof { kind: ProofKind::Signature, predicate: String::new(), verified };
    }
    let statement = verify_statement(key, text, digest);
    Proof { kind: ProofKind::Attestation, predicate: statement.predicate, verified: statement.verified }
}
