//! The secrets bundle of a cluster, in the file format of `talosctl gen secrets`.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use rand::Rng;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    documents::MachineConfig,
    pki::{self, CertificateAndKey, KeyType, PrivateKey},
};

/// Errors in the generation and parsing of secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The certificate library returned an error.
    #[error("make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A generated key has an unexpected form. This would be a bug in the lab.
    #[error("a generated key has an unexpected form; this is a fault of the lab")]
    KeyForm,
    /// A field is not base64 or PEM.
    #[error("a certificate or key of the secrets bundle is not PEM in base64; was the file edited?")]
    Encoding,
    /// A CA has a key of a type that the lab cannot sign with.
    #[error("the CA's key is not Ed25519, ECDSA (P-256, P-384) or RSA in PEM; the lab cannot sign with it")]
    KeyType,
    /// The file is not a secrets bundle.
    #[error("it is not a secrets bundle of talosctl gen secrets: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// All secrets that the nodes of a cluster share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsBundle {
    /// Cluster identity for discovery.
    pub cluster: ClusterIdentity,
    /// Kubernetes secrets.
    pub secrets: KubernetesSecrets,
    /// The token for trustd.
    pub trustdinfo: TrustdInfo,
    /// Certificate authorities.
    pub certs: Certificates,
}

/// Cluster identity for discovery.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// 32 random bytes, URL-safe base64.
    pub id: String,
    /// 32 random bytes, base64.
    pub secret: String,
}

/// Kubernetes secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesSecrets {
    /// Bootstrap token of kubelet, `6.16` characters.
    pub bootstraptoken: String,
    /// Key for encryption at rest, base64.
    pub secretboxencryptionsecret: String,
}

/// The token that trustd verifies.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustdInfo {
    /// `6.16` characters.
    pub token: String,
}

/// The certificate authorities of a cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// CA for etcd peers and clients.
    pub etcd: CertificateAndKey,
    /// CA of the Kubernetes API.
    pub k8s: CertificateAndKey,
    /// CA of the aggregation layer.
    pub k8saggregator: CertificateAndKey,
    /// Key that signs service account tokens.
    pub k8sserviceaccount: PrivateKey,
    /// CA of the machine API.
    pub os: CertificateAndKey,
}

impl std::fmt::Debug for SecretsBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretsBundle(redacted)")
    }
}

impl SecretsBundle {
    /// Generates secrets. The service account key is ECDSA, where Talos uses RSA 4096. Kubernetes accepts
    /// both, and RSA signatures are expensive on an emulated API server.
    ///
    /// # Errors
    /// Returns an error if the certificate library fails, which is not expected.
    pub fn generate(now: jiff::Timestamp) -> Result<Self, SecretsError> {
        let now = OffsetDateTime::from_unix_timestamp(now.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let ecdsa = |organization, name| pki::authority(KeyType::EcdsaP256, organization, name, now);
        let service_account = KeyType::EcdsaP256.generate()?;
        Ok(Self {
            cluster: ClusterIdentity {
                id: URL_SAFE.encode(rand::random::<[u8; 32]>()),
                secret: STANDARD.encode(rand::random::<[u8; 32]>()),
            },
            secrets: KubernetesSecrets {
                bootstraptoken: token(),
                secretboxencryptionsecret: STANDARD.encode(rand::random::<[u8; 32]>()),
            },
            trustdinfo: TrustdInfo { token: token() },
            certs: Certificates {
                etcd: ecdsa(Some("etcd"), None)?,
                k8s: ecdsa(Some("kubernetes"), None)?,
                k8saggregator: ecdsa(None, Some("front-proxy"))?,
                k8sserviceaccount: PrivateKey {
                    key: pki::base64_text(&KeyType::EcdsaP256.pem(&service_account)?),
                },
                os: pki::authority(KeyType::Ed25519, Some("talos"), None, now)?,
            },
        })
    }

    /// Extracts the secrets from a control plane config. Missing secrets are empty.
    pub fn of_control_plane(config: &MachineConfig) -> Self {
        let text = |path: &[&str]| config.text_at(path).unwrap_or_default().to_owned();
        let pair = |path: &[&str]| CertificateAndKey {
            crt: text(&[path, &["crt"]].concat()),
            key: text(&[path, &["key"]].concat()),
        };
        Self {
            cluster: ClusterIdentity { id: text(&["cluster", "id"]), secret: text(&["cluster", "secret"]) },
            secrets: KubernetesSecrets {
                bootstraptoken: text(&["cluster", "token"]),
                secretboxencryptionsecret: text(&["cluster", "secretboxEncryptionSecret"]),
            },
            trustdinfo: TrustdInfo { token: text(&["machine", "token"]) },
            certs: Certificates {
                etcd: pair(&["cluster", "etcd", "ca"]),
                k8s: pair(&["cluster", "ca"]),
                k8saggregator: pair(&["cluster", "aggregatorCA"]),
                k8sserviceaccount: PrivateKey { key: text(&["cluster", "serviceAccount", "key"]) },
                os: pair(&["machine", "ca"]),
            },
        }
    }

    /// Replaces these secrets in a config with those of `other`.
    #[must_use]
    pub fn replaced_by(&self, other: &Self, mut config: MachineConfig) -> MachineConfig {
        let (own, others) = (self.texts(), other.texts());
        config.replace_texts(|text| {
            let found = own.iter().zip(others).find(|(own, _)| !own.is_empty() && **own == text);
            found.map(|(_, other)| other)
        });
        config
    }

    /// Returns all texts of the bundle. Each is a separate value in a machine config.
    fn texts(&self) -> [&str; 14] {
        let Self { cluster, secrets, trustdinfo, certs } = self;
        let Certificates { etcd, k8s, k8saggregator, k8sserviceaccount, os } = certs;
        [
            &cluster.id,
            &cluster.secret,
            &secrets.bootstraptoken,
            &secrets.secretboxencryptionsecret,
            &trustdinfo.token,
            &etcd.crt,
            &etcd.key,
            &k8s.crt,
            &k8s.key,
            &k8saggregator.crt,
            &k8saggregator.key,
            &k8sserviceaccount.key,
            &os.crt,
            &os.key,
        ]
    }

    /// Generates a token in the format of kubelet bootstrap and trustd.
    pub fn fresh_token() -> String {
        token()
    }

    /// Returns the bundle in its file format.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_yaml(&self) -> Result<String, SecretsError> {
        Ok(serde_yaml::to_string(self)?)
    }

    /// Parses the file format.
    ///
    /// # Errors
    /// Returns an error with line and column if the document is not a secrets bundle.
    pub fn from_yaml(text: &str) -> Result<Self, SecretsError> {
        Ok(serde_yaml::from_str(text)?)
    }
}

/// Generates a token of the form `[a-z0-9]{6}.[a-z0-9]{16}` (Kubernetes, bootstrap tokens).
fn token() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    let mut part = |length: usize| -> String {
        (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
    };
    format!("{}.{}", part(6), part(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_survives_its_file_form_and_hides_in_debug_output() {
        let bundle = SecretsBundle::generate(jiff::Timestamp::now()).expect("generate");
        let text = bundle.to_yaml().expect("write");
        assert_eq!(SecretsBundle::from_yaml(&text).expect("read"), bundle);
        assert_eq!(format!("{bundle:?}"), "SecretsBundle(redacted)");
        assert!(SecretsBundle::from_yaml("cluster: 1").is_err());
    }

    #[test]
    fn a_config_with_other_secrets_is_the_one_that_is_generated_with_them() {
        use crate::{
            cluster::TalosContract,
            config::{ClusterConfig, LabPatches, NodeConfig, generate},
        };
        use lab_model::node::Kind;
        let [first, second] =
            [(); 2].map(|()| SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets"));
        for (contract, kind) in [TalosContract::V1_11, TalosContract::V1_12, TalosContract::V1_13]
            .into_iter()
            .flat_map(|contract| [Kind::ControlPlane, Kind::Worker].map(|kind| (contract, kind)))
        {
            let cluster = ClusterConfig {
                name: "lab".into(),
                endpoint_address: [10, 5, 0, 10].into(),
                contract,
                kubernetes_version: "1.34.1".into(),
                lan: "10.5.0.0/24".parse().expect("network"),
                gateway: [10, 5, 0, 1].into(),
                pods: "10.244.0.0/16".parse().expect("network"),
                services: "10.96.0.0/12".parse().expect("network"),
                dns_domain: "cluster.local".into(),
                mirrors: Vec::new(),
                image_cache: false,
                own_network_plugin: false,
                schedule_on_control_planes: false,
                lab_patches: LabPatches::default(),
            };
            let node = NodeConfig::new("node-1".parse().expect("name"), kind);
            let [of_first, of_second] = [&first, &second].map(|secrets| generate(&cluster, &node, secrets));
            assert_ne!(of_first, of_second);
            assert_eq!(first.replaced_by(&second, of_first.clone()).to_yaml().ok(), of_second.to_yaml().ok());
            // Values that the bundle does not contain stay unchanged.
            assert_eq!(second.replaced_by(&first, of_first.clone()), of_first);
        }
    }

    #[test]
    fn tokens_have_the_form_of_bootstrap_tokens() {
        let token = token();
        let (id, secret) = token.split_once('.').expect("a dot");
        assert_eq!((id.len(), secret.len()), (6, 16));
    }
}
