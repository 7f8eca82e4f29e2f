//! Keys and certificates in the formats of Talos.
//!
//! Source of the formats: `github.com/siderolabs/crypto/x509` (PEM labels) and
//! `machinery/config/generate/secrets` (the key type and organization of each CA).

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData,
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
    let authority_pem = from_base64(&authority.crt)?;
    let certificate = CertificateDer::from_pem_slice(&authority_pem).map_err(|_| SecretsError::Encoding)?;
    let key = KeyPair::from_der_and_sign_algo(
        &PrivateKeyDer::Pkcs8(pkcs8(&from_base64(&authority.key)?)?.into()),
        &PKCS_ED25519,
    )?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    let pair = KeyType::Ed25519.generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for role in roles {
        params.distinguished_name.push(DnType::OrganizationName, *role);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = now - time::Duration::days(EARLY_DAYS);
    params.not_after = now + time::Duration::days(365);
    let certificate = params.signed_by(&pair, &issuer)?;
    Ok(CertificateAndKey {
        crt: base64_text(&certificate.pem()),
        key: base64_text(&KeyType::Ed25519.pem(&pair)?),
    })
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
    fn keys_carry_the_labels_of_talos() {
        let pem = |key_type: KeyType| key_type.pem(&key_type.generate().expect("key")).expect("pem");
        assert!(
            pem(KeyType::Ed25519).starts_with("-----BEGIN ED25519 PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI")
        );
        assert!(pem(KeyType::EcdsaP256).starts_with("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI"));
    }
}
