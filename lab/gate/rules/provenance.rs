//! Signatures and attestations are valid if there are any, and are there if the release requires them.

use super::{Looked, Rule};
use crate::evidence::{Evidence, Proof, ProofKind};

pub(super) const RULE: Rule = Rule {
    name: "provenance",
    holds: "signatures and attestations are valid, and exist where the release requires them",
    subjects: "parts",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    let Some(rule) = &evidence.release.provenance else { return looked };
    let kinds = [(ProofKind::Signature, rule.signatures), (ProofKind::Attestation, rule.attestations)];
    for part in &evidence.proofs {
        looked.at_one();
        match &part.proofs {
            Ok(proofs) => {
                for (kind, required) in kinds {
                    let of_kind: Vec<_> = proofs.iter().filter(|proof| proof.kind == kind).collect();
                    if required || !of_kind.is_empty() {
                        one_is_valid(&mut looked, &part.source, kind, &of_kind);
                    }
                }
            }
            Err(why) => {
                let cause = format!("its signatures and attestations could not be read: {why}");
                looked.error(&part.source, cause, "run the gate where the registry can be reached");
            }
        }
    }
    looked
}

/// One valid proof of a kind is enough: others may be by other keys.
fn one_is_valid(looked: &mut Looked, source: &str, kind: ProofKind, proofs: &[&Proof]) {
    if proofs.iter().any(|proof| proof.verified.is_ok()) {
        return;
    }
    let remedy = match kind {
        ProofKind::Signature => "sign it with `cosign sign --key …` under its digest",
        ProofKind::Attestation => {
            "attest it with `cosign attest --key … --type slsaprovenance` under its digest"
        }
    };
    let whys: Vec<_> = proofs.iter().filter_map(|proof| proof.verified.clone().err()).collect();
    let cause = match whys.first() {
        Some(why) => format!("has no valid {kind}: {why}"),
        None => format!("has no {kind}, and the release requires one"),
    };
    looked.error(source, cause, remedy);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evidence::ProofEvidence, release::ProvenanceRule, rules::fixture};

    fn found(proofs: Result<Vec<Proof>, String>, signatures: bool) -> Vec<String> {
        let mut evidence = fixture::evidence(Vec::new());
        let rule = ProvenanceRule { key: "cosign.pub".into(), signatures, attestations: false };
        evidence.release.provenance = Some(rule);
        evidence.proofs.push(ProofEvidence { source: "ghcr.io/you/api:v1".into(), proofs });
        fixture::found(&RULE, &evidence)
    }

    fn signature(verified: Result<(), String>) -> Proof {
        Proof { kind: ProofKind::Signature, predicate: String::new(), verified }
    }

    #[test]
    fn one_valid_signature_is_enough() {
        assert_eq!(found(Ok(vec![signature(Err("another key".into())), signature(Ok(()))]), true), [""; 0]);
        assert_eq!(found(Ok(Vec::new()), false), [""; 0]);
    }

    #[test]
    fn a_missing_an_invalid_and_an_unknown_signature_are_told() {
        let source = "ghcr.io/you/api:v1";
        assert_eq!(
            found(Ok(Vec::new()), true),
            [format!("{source}: has no signature, and the release requires one")]
        );
        assert_eq!(
            found(Ok(vec![signature(Err("it is for another digest".into()))]), false),
            [format!("{source}: has no valid signature: it is for another digest")]
        );
        assert!(found(Err("no answer".into()), false)[0].contains("could not be read: no answer"));
    }
}
