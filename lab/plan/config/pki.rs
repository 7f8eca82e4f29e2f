//! Keys and certificates in the formats of Talos.
//!
//! Source of the formats: `github.com/siderolabs/crypto/x509` (PEM labels) and
//! `machinery/config/generate/secrets` (the key type and organization of each CA).

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::secrets::SecretsError;

/// Validity of a CA: Talos's `CAValidityTime`, ten years.
const AUTHORITY_DAYS: i64 = 3650;
/// Certificates become valid one day early, so that they are valid on a restored or slow clock.
const EARLY_DAYS: i64 = 1;

/// A PEM certificate and its PEM key, each in base64 as in Talos's files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAndKey {
    pub crt: String,
    /// The private key. Empty where only the certificate is distributed.
    pub key: String,
}

/// A private key, PEM in base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateKey {
    pub key: String,
}

impl std::fmt::Debug for CertificateAndKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateAndKey(redacted)")
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

/// The key types that Talos uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Ed25519,
    EcdsaP256,
}

impl KeyType {
    pub(super) fn generate(self) -> Result<KeyPair, SecretsError> {
        Ok(KeyPair::generate_for(match self {
            Self::Ed25519 => &PKCS_ED25519,
            Self::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
        })?)
    }

    /// Returns the key in the format of Talos's tools: SEC 1 for ECDSA (RFC 5915), and PKCS #8 version 1
    /// with a separate label for Ed25519 (RFC 8410).
    pub(super) fn pem(self, pair: &KeyPair) -> Result<String, SecretsError> {
        let der = pair.serialize_der();
        match self {
            Self::Ed25519 => {
                let seed = find_after(&der, &[0x04, 0x22, 0x04, 0x20], 32)?;
                let mut out = hex_bytes("302e020100300506032b657004220420");
                out.extend_from_slice(seed);
                Ok(pem("ED25519 PRIVATE KEY", &out))
            }
            Self::EcdsaP256 => {
                // ECPrivateKey { 1, OCTET STRING d, [0] prime256v1, [1] BIT STRING point }
                let scalar = find_after(&der, &[0x02, 0x01, 0x01, 0x04, 0x20], 32)?;
                let mut out = hex_bytes("30770201010420");
                out.extend_from_slice(scalar);
                out.extend(hex_bytes("a00a06082a8648ce3d030107a144034200"));
                out.extend_from_slice(pair.der_bytes());
                Ok(pem("EC PRIVATE KEY", &out))
            }
        }
    }
}

/// Returns the `length` bytes after the first occurrence of `marker`.
fn find_after<'a>(der: &'a [u8], marker: &[u8], length: usize) -> Result<&'a [u8], SecretsError> {
    der.windows(marker.len())
        .position(|window| window == marker)
        .and_then(|at| der.get(at + marker.len()..at + marker.len() + length))
        .ok_or(SecretsError::KeyForm)
}

fn hex_bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_default()
}

/// Encodes DER as RFC 7468 text.
fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> =
        body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(super) fn base64_text(text: &str) -> String {
    STANDARD.encode(text)
}

pub fn from_base64(text: &str) -> Result<Vec<u8>, SecretsError> {
    STANDARD.decode(text).map_err(|_| SecretsError::Encoding)
}

/// Creates a self-signed CA. `organization` and `common_name` form the subject, if given.
pub(super) fn authority(
    key_type: KeyType,
    organization: Option<&str>,
    common_name: Option<&str>,
    now: OffsetDateTime,
) -> Result<CertificateAndKey, SecretsError> {
    let pair = key_type.generate()?;
    let mut params = CertificateParams::default();
    subject(&mut params, organization, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = now - time::Duration::days(EARLY_DAYS);
    params.not_after = now + time::Duration::days(AUTHORITY_DAYS);
    let certificate = params.self_signed(&pair)?;
    Ok(CertificateAndKey { crt: base64_text(&certificate.pem()), key: base64_text(&key_type.pem(&pair)?) })
}

/// Creates a client certificate of the machine CA for the given roles (Ed25519, extended key usage
/// exactly clientAuth, as apid requires).
pub(super) fn client_certificate(
    authority: &CertificateAndKey,
    roles: &[&str],
    now: OffsetDateTime,
) -> Result<CertificateAndKey, SecretsError> {
    let mut name = rcgen::DistinguishedName::new();
    for role in roles {
        name.push(DnType::OrganizationName, *role);
    }
    client_of(authority, signing_key(&authority.key)?, name, KeyType::Ed25519, now)
}

/// Creates the client certificate of the cluster's administrator, signed by the CA of the Kubernetes API, with
/// the subject that Talos issues (`machinery/role` and `kubeconfig.GenerateAdmin`).
pub(super) fn kubernetes_administrator(
    authority: &CertificateAndKey,
    now: OffsetDateTime,
) -> Result<CertificateAndKey, SecretsError> {
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:masters");
    name.push(DnType::CommonName, "admin");
    client_of(authority, signing_key(&authority.key)?, name, KeyType::EcdsaP256, now)
}

fn client_of(
    authority: &CertificateAndKey,
    key: KeyPair,
    name: rcgen::DistinguishedName,
    key_type: KeyType,
    now: OffsetDateTime,
) -> Result<CertificateAndKey, SecretsError> {
    let authority_pem = from_base64(&authority.crt)?;
    let certificate = CertificateDer::from_pem_slice(&authority_pem).map_err(|_| SecretsError::Encoding)?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    let pair = key_type.generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = now - time::Duration::days(EARLY_DAYS);
    params.not_after = now + time::Duration::days(365);
    let certificate = params.signed_by(&pair, &issuer)?;
    Ok(CertificateAndKey { crt: base64_text(&certificate.pem()), key: base64_text(&key_type.pem(&pair)?) })
}

/// The private key of a CA, of any type that the lab can sign with: Ed25519, ECDSA with P-256 or P-384, and RSA.
fn signing_key(key: &str) -> Result<KeyPair, SecretsError> {
    let pem = from_base64(key)?;
    let der = pkcs8(&pem)?;
    let label = |label: &str| pem.starts_with(format!("-----BEGIN {label} PRIVATE KEY-----").as_bytes());
    let wrapped: Vec<Vec<u8>> = if label("EC") {
        [P256, P384].map(|curve| as_pkcs8(&[EC_PUBLIC_KEY, curve].concat(), &der)).into()
    } else if label("RSA") {
        vec![as_pkcs8(&[RSA_ENCRYPTION, NULL].concat(), &der)]
    } else {
        vec![der]
    };
    let algorithms = [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256];
    let tried = wrapped.iter().flat_map(|der| algorithms.map(|algorithm| (der, algorithm)));
    let pair = |(der, algorithm): (&Vec<u8>, &'static rcgen::SignatureAlgorithm)| {
        KeyPair::from_der_and_sign_algo(&PrivateKeyDer::Pkcs8(der.clone().into()), algorithm).ok()
    };
    tried.filter_map(pair).next().ok_or(SecretsError::KeyType)
}

/// Object identifiers in DER: RFC 5480 (elliptic curves) and RFC 8017 (RSA).
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const NULL: &[u8] = &[0x05, 0x00];

/// Wraps a key of RFC 5915 or RFC 8017 as PKCS #8 (RFC 5208), the only form that the certificate library reads.
fn as_pkcs8(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let version = [0x02, 0x01, 0x00].as_slice();
    der(0x30, &[version, &der(0x30, algorithm), &der(0x04, key)].concat())
}

/// A DER element with a definite length.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.extend_from_slice(significant);
    } else {
        // A length has at most eight bytes.
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

fn subject(params: &mut CertificateParams, organization: Option<&str>, common_name: Option<&str>) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    if let Some(common_name) = common_name {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
}

/// Returns the DER content of a PEM text with any label. Talos labels PKCS #8 keys by algorithm.
pub fn pkcs8(pem: &[u8]) -> Result<Vec<u8>, SecretsError> {
    let text = std::str::from_utf8(pem).map_err(|_| SecretsError::Encoding)?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    STANDARD.decode(body).map_err(|_| SecretsError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_is_signed_by_its_authority_and_carries_its_roles() {
        let now = OffsetDateTime::now_utc();
        let authority = authority(KeyType::Ed25519, Some("talos"), None, now).expect("authority");
        let client = client_certificate(&authority, &["os:admin"], now).expect("client");
        let der =
            |pem: &str| CertificateDer::from_pem_slice(&from_base64(pem).expect("base64")).expect("pem");
        let (authority, client) = (der(&authority.crt), der(&client.crt));
        let (_, authority) = x509_parser::parse_x509_certificate(&authority).expect("parse");
        let (_, client) = x509_parser::parse_x509_certificate(&client).expect("parse");
        assert_eq!(client.subject().to_string(), "O=os:admin");
        assert_eq!(client.issuer(), authority.subject());
        let usage = client.extended_key_usage().expect("parse").expect("there");
        assert!(usage.value.client_auth && !usage.value.server_auth);
    }

    #[test]
    fn an_administrator_of_kubernetes_is_issued_with_every_common_type_of_authority() {
        let now = OffsetDateTime::now_utc();
        for key_type in [KeyType::EcdsaP256, KeyType::Ed25519] {
            let authority = authority(key_type, Some("kubernetes"), None, now).expect("authority");
            let client = kubernetes_administrator(&authority, now).expect("client");
            let der =
                |pem: &str| CertificateDer::from_pem_slice(&from_base64(pem).expect("base64")).expect("pem");
            let (authority, client) = (der(&authority.crt), der(&client.crt));
            let (_, authority) = x509_parser::parse_x509_certificate(&authority).expect("parse");
            let (_, client) = x509_parser::parse_x509_certificate(&client).expect("parse");
            assert_eq!(client.subject().to_string(), "O=system:masters, CN=admin");
            client.verify_signature(Some(authority.public_key())).expect("signed by the authority");
        }
        let unusable =
            CertificateAndKey { crt: String::new(), key: base64_text("-----BEGIN X-----\nAAAA\n") };
        assert!(matches!(kubernetes_administrator(&unusable, now), Err(SecretsError::KeyType)));
    }

    #[test]
    fn keys_carry_the_labels_of_talos() {
        let pem = |key_type: KeyType| key_type.pem(&key_type.generate().expect("key")).expect("pem");
        assert!(
            pem(KeyType::Ed25519).starts_with("-----BEGIN ED25519 PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI")
        );
        assert!(pem(KeyType::EcdsaP256).starts_with("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI"));
    }
}
