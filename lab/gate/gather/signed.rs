//! Verifies cosign signatures and signed in-toto statements with a public key.
//!
//! Formats: cosign's simple signing (sigstore/cosign specs/SIGNATURE_SPEC.md: the payload is a blob, its signature an
//! annotation), DSSE envelopes (secure-systems-lab/dsse protocol.md) with in-toto statements
//! (in-toto/attestation spec/v1/statement.md), alone or in a bundle (sigstore/protobuf-specs, `bundle.proto`). Keys are
//! ECDSA P-256, which cosign generates, P-384, and Ed25519. Signatures of certificates (keyless) need Fulcio's roots and
//! a transparency log; they are not verified and do not count.

use base64::{Engine, engine::general_purpose::STANDARD};
use lab_model::{Digest, visible};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value;
use x509_parser::{pem::parse_x509_pem, prelude::FromDer, x509::SubjectPublicKeyInfo};

/// The type of an in-toto statement in an envelope.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The longest text of a statement that is shown, in characters.
const SHOWN: usize = 200;

/// A public key.
pub(super) struct PublicKey {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
}

impl PublicKey {
    /// Reads a key in PEM (RFC 7468, "PUBLIC KEY").
    pub(super) fn parse(pem: &[u8]) -> Result<Self, String> {
        let (_, pem) = parse_x509_pem(pem).map_err(|error| format!("it is not PEM: {error}"))?;
        if pem.label != "PUBLIC KEY" {
            return Err(format!("it has a \"{}\"; write a public key there", visible(&pem.label, SHOWN)));
        }
        let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents)
            .map_err(|error| format!("it is not a public key: {error}"))?;
        let (kind, key) = (info.algorithm.algorithm.to_id_string(), info.subject_public_key.data.to_vec());
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok())
            .map(|curve| curve.to_id_string());
        let algorithm: &'static dyn VerificationAlgorithm = match (kind.as_str(), curve.as_deref()) {
            // id-ecPublicKey with P-256 and P-384 (RFC 5480), Ed25519 (RFC 8410).
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => &ECDSA_P256_SHA256_ASN1,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => &ECDSA_P384_SHA384_ASN1,
            ("1.3.101.112", _) => &ED25519,
            _ => {
                return Err(format!(
                    "the gate does not know keys of the kind {kind}; use ECDSA P-256, as cosign does"
                ));
            }
        };
        Ok(Self { algorithm, key })
    }

    fn verify(&self, message: &[u8], signature: &str) -> Result<(), String> {
        let signature =
            STANDARD.decode(signature.trim()).map_err(|_| "its signature is not base64".to_owned())?;
        let key = UnparsedPublicKey::new(self.algorithm, &self.key);
        key.verify(message, &signature)
            .map_err(|_| "its signature is not by the key of the release".to_owned())
    }
}

/// Verifies a signature of cosign about the manifest `digest`.
pub(super) fn verify_signature(
    key: &PublicKey,
    payload: &[u8],
    signature: Option<&str>,
    digest: &Digest,
) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Payload {
        critical: Critical,
    }
    #[derive(Deserialize)]
    struct Critical {
        image: Image,
    }
    #[derive(Deserialize)]
    struct Image {
        #[serde(rename = "docker-manifest-digest")]
        digest: String,
    }
    let signature = signature.ok_or("it has no signature by a key; keyless signatures are not verified")?;
    key.verify(payload, signature)?;
    let said: Payload = serde_json::from_slice(payload)
        .map_err(|error| format!("its payload is not one of cosign: {error}"))?;
    let said = said.critical.image.digest;
    if said == digest.to_string() { Ok(()) } else { Err(format!("it is about {}", visible(&said, SHOWN))) }
}

/// A statement in a signed envelope.
pub(super) struct Statement {
    /// The type of its predicate.
    pub(super) predicate: String,
    pub(super) verified: Result<(), String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    #[serde(default)]
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// Verifies an envelope, alone or in a bundle, with a statement about the manifest `digest`.
pub(super) fn verify_statement(key: &PublicKey, text: &[u8], digest: &Digest) -> Statement {
    match statement(text) {
        Ok((envelope, payload, statement)) => {
            let predicate = statement["predicateType"].as_str().unwrap_or_default();
            let verified =
                verify_envelope(key, &envelope, &payload).and_then(|()| is_about(&statement, digest));
            Statement { predicate: visible(predicate, SHOWN), verified }
        }
        Err(why) => Statement { predicate: String::new(), verified: Err(why) },
    }
}

/// Reads a statement with a key that signs nothing, for the fuzz targets alone.
#[doc(hidden)]
pub fn fuzzed_statement(text: &[u8]) {
    let key = PublicKey { algorithm: &ED25519, key: vec![0; 32] };
    let digest = Digest::of_bytes(b"image");
    assert!(verify_statement(&key, text, &digest).verified.is_err(), "nobody has signed it");
    let _ = verify_signature(&key, text, Some("AA=="), &digest);
    let _ = PublicKey::parse(text);
}

fn statement(text: &[u8]) -> Result<(Envelope, Vec<u8>, Value), String> {
    let wrong = |error: serde_json::Error| format!("it is not a signed envelope: {error}");
    let mut value: Value = serde_json::from_slice(text).map_err(wrong)?;
    if let Some(inner) = value.get_mut("dsseEnvelope") {
        value = inner.take();
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(wrong)?;
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| "its payload is not base64".to_owned())?;
    let statement = serde_json::from_slice(&payload)
        .map_err(|error| format!("its payload is not a statement: {error}"))?;
    Ok((envelope, payload, statement))
}

fn verify_envelope(key: &PublicKey, envelope: &Envelope, payload: &[u8]) -> Result<(), String> {
    let kind = &envelope.payload_type;
    if kind != IN_TOTO {
        return Err(format!("its payload is {}, not an in-toto statement", visible(kind, SHOWN)));
    }
    // The pre-authentication encoding of DSSE.
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(payload);
    let mut why = "it has no signature".to_owned();
    for signature in &envelope.signatures {
        match key.verify(&message, &signature.sig) {
            Ok(()) => return Ok(()),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn is_about(statement: &Value, digest: &Digest) -> Result<(), String> {
    let subjects = statement["subject"].as_array().map(Vec::as_slice).unwrap_or_default();
    let digests: Vec<_> =
        subjects.iter().filter_map(|subject| subject["digest"]["sha256"].as_str()).collect();
    if digests.contains(&digest.hex().as_str()) {
        return Ok(());
    }
    let named =
        digests.first().map_or("no digest".to_owned(), |digest| format!("sha256:{}", visible(digest, SHOWN)));
    Err(format!("it is about {named}"))
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::SigningKey;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn key(of: &SigningKey) -> PublicKey {
        PublicKey::parse(of.public_pem().as_bytes()).expect("key")
    }

    fn payload(digest: &Digest) -> Vec<u8> {
        let payload = json!({ "critical": { "identity": {}, "image": { "docker-manifest-digest": digest.to_string() }, "type": "cosign container image signature" } });
        payload.to_string().into_bytes()
    }

    fn envelope(of: &SigningKey, digest: &Digest) -> Value {
        let statement = json!({ "_type": "https://in-toto.io/Statement/v1", "subject": [{ "digest": { "sha256": digest.hex() } }], "predicateType": "https://slsa.dev/provenance/v1" }).to_string();
        let message = format!("DSSEv1 {} {IN_TOTO} {} {statement}", IN_TOTO.len(), statement.len());
        json!({ "payloadType": IN_TOTO, "payload": STANDARD.encode(&statement), "signatures": [{ "sig": STANDARD.encode(of.signature(message.as_bytes())) }] })
    }

    #[test]
    fn a_signature_counts_by_its_key_and_its_digest() {
        let (own, other) = (SigningKey::new("own"), SigningKey::new("other"));
        let digest = Digest::of_bytes(b"image");
        let payload = payload(&digest);
        let signature = STANDARD.encode(own.signature(&payload));
        let verify =
            |by: &SigningKey, about: &Digest| verify_signature(&key(by), &payload, Some(&signature), about);
        assert_eq!(verify(&own, &digest), Ok(()));
        assert_eq!(verify(&other, &digest), Err("its signature is not by the key of the release".to_owned()));
        assert_eq!(verify(&own, &Digest::of_bytes(b"x")), Err(format!("it is about {digest}")));
        assert!(
            verify_signature(&key(&own), &payload, None, &digest).expect_err("keyless").contains("keyless")
        );
    }

    #[test]
    fn a_statement_counts_alone_and_in_a_bundle() {
        let (own, other) = (SigningKey::new("own"), SigningKey::new("other"));
        let digest = Digest::of_bytes(b"image");
        let envelope = envelope(&own, &digest);
        for text in [
            envelope.to_string(),
            json!({ "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": envelope })
                .to_string(),
        ] {
            let good = verify_statement(&key(&own), text.as_bytes(), &digest);
            assert_eq!((good.predicate.as_str(), good.verified), ("https://slsa.dev/provenance/v1", Ok(())));
            assert!(verify_statement(&key(&other), text.as_bytes(), &digest).verified.is_err());
            assert_eq!(
                verify_statement(&key(&own), text.as_bytes(), &Digest::of_bytes(b"x")).verified,
                Err(format!("it is about {digest}"))
            );
        }
        assert!(verify_statement(&key(&own), b"{}", &digest).verified.is_err());
    }

    #[test]
    fn what_is_not_a_public_key_is_told() {
        let error = |pem: &[u8]| PublicKey::parse(pem).err().expect("refused");
        assert!(error(b"text").starts_with("it is not PEM"));
        assert!(
            error(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .contains("has a \"CERTIFICATE\"")
        );
    }

    proptest! {
        #[test]
        fn any_text_ends_without_a_panic(text in any::<Vec<u8>>()) {
            static OWN: std::sync::LazyLock<SigningKey> = std::sync::LazyLock::new(|| SigningKey::new("own"));
            let _ = verify_statement(&key(&OWN), &text, &Digest::of_bytes(b"x"));
            let _ = PublicKey::parse(&text);
        }
    }
}
