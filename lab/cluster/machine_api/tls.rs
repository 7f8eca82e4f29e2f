//! TLS connections to nodes through a forwarded port. The dialled address differs from the address in the
//! certificate.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use lab_model::Digest;
use lab_plan::config::{Credentials, pki};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::api_error::ApiError;

/// Time limit for the TCP connection and the TLS handshake together. An emulated node needs 1–2 s while it
/// boots.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Returns a config for mutual TLS. It trusts certificates that the cluster's machine CA signed.
///
/// # Errors
/// [`ApiError::Credentials`] when the CA, the certificate or the key is invalid.
pub(super) fn mutual(credentials: &Credentials) -> Result<ClientConfig, ApiError> {
    let bad = |what: &'static str| ApiError::Credentials { what };
    let pem = |text: &str| pki::from_base64(text).map_err(|_| bad("are not base64"));
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&pem(&credentials.ca)?)
        .map_err(|_| bad("contain no certificate authority"))?;
    roots.add(authority).map_err(|_| bad("contain an invalid certificate authority"))?;
    let certificate = CertificateDer::from_pem_slice(&pem(&credentials.crt)?)
        .map_err(|_| bad("contain no client certificate"))?;
    let key = pki::pkcs8(&pem(&credentials.key)?).map_err(|_| bad("contain no client key"))?;
    let mut config = builder()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into()))
        .map_err(|_| bad("contain a key that does not match the certificate"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Returns a config that accepts every server certificate. In maintenance mode the certificate is
/// self-signed. The config stores its fingerprint in `seen`, for comparison with the node's console.
pub(super) fn unverified(seen: &Fingerprint) -> Result<ClientConfig, ApiError> {
    let verifier = AcceptAny { provider: Arc::new(ring::default_provider()), seen: seen.clone() };
    let mut config =
        builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, ApiError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| ApiError::Credentials { what: "cannot be used with this TLS library" })
}

/// Connects to `via` and verifies that the server's certificate is valid for `node`.
///
/// # Errors
/// [`ApiError::Tls`] when a certificate is rejected, [`ApiError::Unreachable`] when the connection fails for
/// another reason or exceeds [`CONNECT_LIMIT`].
pub(super) async fn connect(
    config: ClientConfig,
    via: SocketAddr,
    node: IpAddr,
) -> Result<Channel, ApiError> {
    let connector = TlsConnector::from(Arc::new(config));
    let dial = move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(via).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(ServerName::IpAddress(node.into()), stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    };
    let endpoint = Endpoint::from_shared(format!("http://{node}"))
        .map_err(|source| ApiError::unreachable(node, &source))?
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(60));
    let connected =
        tokio::time::timeout(CONNECT_LIMIT, endpoint.connect_with_connector(tower::service_fn(dial)));
    match connected.await {
        Ok(channel) => channel.map_err(|source| ApiError::from_transport(node, &source)),
        Err(_) => Err(ApiError::Unreachable {
            node,
            reason: format!("no TLS handshake within {} s", CONNECT_LIMIT.as_secs()),
        }),
    }
}

/// The SHA-256 digest of the server's certificate; `None` before the first handshake.
#[derive(Clone, Debug, Default)]
pub(super) struct Fingerprint(Arc<Mutex<Option<Digest>>>);

impl Fingerprint {
    pub(super) fn get(&self) -> Option<Digest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
    seen: Fingerprint,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Digest::of_bytes(end_entity));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
