//! A certificate authority for one control server, and the server's certificate.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

/// Certificates start one day early, because the clock of a restored node may be behind.
const EARLY: Duration = Duration::days(1);
/// Validity period. No run takes longer, and some clients reject server certificates that are valid for
/// more than 398 days.
const VALID: Duration = Duration::days(90);

/// The certificates and the key of a server, in PEM.
pub(super) struct ServerCertificate {
    /// The authority that clients must trust.
    pub authority: String,
    pub certificate: String,
    /// The server's private key.
    pub key: String,
}

/// Creates a certificate for a server at `addresses`. Discards the key of the authority, so it cannot sign
/// another certificate.
pub(super) fn server_certificate(addresses: &[Ipv4Addr]) -> Result<ServerCertificate, rcgen::Error> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "lab tailnet authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = now - EARLY;
    params.not_after = now + VALID;
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "lab control server");
    params.subject_alt_names = addresses.iter().map(|a| SanType::IpAddress(IpAddr::V4(*a))).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = now - EARLY;
    params.not_after = now + VALID;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok(ServerCertificate {
        authority: authority.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Returns a TLS configuration that trusts only this PEM certificate, or no certificate without an
/// argument.
pub(super) fn tls_trusting(authority: Option<&str>) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(authority) = authority {
        let certificate = CertificateDer::from_pem_slice(authority.as_bytes())
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
