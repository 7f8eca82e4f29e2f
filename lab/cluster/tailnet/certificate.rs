//! An authority for one control server, and the server's certificate.

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

/// Certificates start a day early, so that the clock of a restored node is not before them.
const EARLY: Duration = Duration::days(1);
/// How long they are valid. No run is longer; some clients refuse server certificates of over 398
/// days.
const VALID: Duration = Duration::days(90);

/// PEM texts of one server.
pub(super) struct ServerCertificate {
    /// What clients must trust.
    pub authority: String,
    /// The server's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// A certificate for a server at `addresses`. The authority's key is not kept: nothing else can be
/// signed with it.
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

/// TLS for a client that trusts this PEM certificate and nobody else; without one, nobody at all.
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
