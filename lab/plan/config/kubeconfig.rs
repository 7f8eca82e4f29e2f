//! The administrator's kubeconfig. The lab issues it with the CA of the cluster and takes none from a node.
//!
//! A kubeconfig can start programs (`exec`, `auth-provider`), read files (`tokenFile`, `certificate-authority`) and send
//! requests elsewhere (`proxy-url`). A node is not trusted with that. Only if the lab cannot sign with the user's own CA,
//! the lab reads a node's file, and takes exactly three inline fields from it.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    pki::{self, CertificateAndKey},
    secrets::{SecretsBundle, SecretsError},
};

/// The longest kubeconfig that is read, in bytes. An administrator's file has about 5 KB.
const LONGEST_KUBECONFIG: usize = 1 << 20;

/// The credentials of the cluster's administrator, each PEM in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminKubeconfig {
    authority: String,
    client: CertificateAndKey,
}

/// A kubeconfig that the lab does not use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KubeconfigError {
    /// The text is not a kubeconfig, or too long.
    #[error("it is not a kubeconfig: {0}")]
    Form(String),
    /// The file contains a field that the lab refuses.
    #[error(
        "it has the field {path}; the lab takes only inline certificates and an inline key from a kubeconfig"
    )]
    Refused {
        /// The place of the field.
        path: String,
    },
}

impl std::fmt::Debug for AdminKubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminKubeconfig(redacted)")
    }
}

/// The fields that a kubeconfig may have, by place. All others are refused by name.
const CONFIG: [&str; 7] =
    ["apiVersion", "kind", "clusters", "users", "contexts", "current-context", "preferences"];
const CLUSTER: [&str; 3] = ["server", "certificate-authority-data", "tls-server-name"];
const USER: [&str; 2] = ["client-certificate-data", "client-key-data"];
const CONTEXT: [&str; 3] = ["cluster", "user", "namespace"];

impl AdminKubeconfig {
    /// Issues a certificate with the cluster's CA.
    ///
    /// # Errors
    /// [`SecretsError::KeyType`] if the CA is the user's own and has a key that the lab cannot sign with.
    pub fn issue(secrets: &SecretsBundle, now: jiff::Timestamp) -> Result<Self, SecretsError> {
        let now = OffsetDateTime::from_unix_timestamp(now.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let authority = &secrets.certs.k8s;
        let client = pki::kubernetes_administrator(authority, now)?;
        Ok(Self { authority: authority.crt.clone(), client })
    }

    /// Takes the three inline fields of a kubeconfig: the CA certificate, the client's certificate and its key.
    ///
    /// # Errors
    /// If the text is not a kubeconfig with one cluster and one user, or has any other field than those of an
    /// administrator's kubeconfig.
    pub fn of_foreign(text: &str) -> Result<Self, KubeconfigError> {
        let form = |what: &str| KubeconfigError::Form(what.to_owned());
        lab_model::yaml::within_limits(text, LONGEST_KUBECONFIG)
            .map_err(|error| form(&lab_model::visible(&error.message, 200)))?;
        let config: Value = serde_yaml::from_str(text).map_err(|_| form("it is not YAML"))?;
        only(&config, "", &CONFIG)?;
        let entry = |list: &str, key: &str, allowed: &[&str]| {
            let Some([entry]) = config[list].as_array().map(Vec::as_slice) else {
                return Err(KubeconfigError::Form(format!("it does not have exactly one entry in {list}")));
            };
            only(entry, &format!("{list}[0]."), &["name", key])?;
            only(&entry[key], &format!("{list}[0].{key}."), allowed)?;
            Ok(entry[key].clone())
        };
        let cluster = entry("clusters", "cluster", &CLUSTER)?;
        let user = entry("users", "user", &USER)?;
        entry("contexts", "context", &CONTEXT)?;
        let inline = |value: &Value, what: &str| {
            let data = value[what].as_str().filter(|data| !data.is_empty());
            let data = data.filter(|data| pki::from_base64(data).is_ok());
            data.map(str::to_owned).ok_or_else(|| KubeconfigError::Form(format!("it has no inline {what}")))
        };
        Ok(Self {
            authority: inline(&cluster, "certificate-authority-data")?,
            client: CertificateAndKey {
                crt: inline(&user, "client-certificate-data")?,
                key: inline(&user, "client-key-data")?,
            },
        })
    }

    /// Formats the kubeconfig for clients that connect to `via` and verify the address `server`.
    pub fn to_text(&self, via: SocketAddr, server: IpAddr) -> String {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "lab", "cluster": {
                "server": format!("https://{via}"),
                "tls-server-name": server.to_string(),
                "certificate-authority-data": self.authority,
            }}],
            "users": [{ "name": "admin@lab", "user": {
                "client-certificate-data": self.client.crt,
                "client-key-data": self.client.key,
            }}],
            "contexts": [{ "name": "admin@lab", "context": {
                "cluster": "lab", "namespace": "default", "user": "admin@lab",
            }}],
            "current-context": "admin@lab",
        });
        // Texts and lists are always writable.
        serde_yaml::to_string(&config).unwrap_or_default()
    }
}

/// Refuses a mapping that has another field than the allowed ones.
fn only(value: &Value, path: &str, allowed: &[&str]) -> Result<(), KubeconfigError> {
    let Some(fields) = value.as_object() else {
        return Err(KubeconfigError::Form(format!(
            "{} is not a mapping",
            if path.is_empty() { "it" } else { path }
        )));
    };
    let foreign = fields.keys().find(|key| !allowed.contains(&key.as_str()));
    match foreign {
        Some(key) => Err(KubeconfigError::Refused { path: lab_model::visible(&format!("{path}{key}"), 120) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: 'https://10.5.0.2:6443', certificate-authority-data: QQ==}}]
users: [{name: admin, user: {client-certificate-data: Qg==, client-key-data: Qw==}}]
contexts: [{name: admin@lab, context: {cluster: lab, user: admin}}]
current-context: admin@lab
";

    fn ends() -> (SocketAddr, IpAddr) {
        ("127.0.0.1:4567".parse().expect("address"), "10.5.0.2".parse().expect("ip"))
    }

    #[test]
    fn the_administrator_is_issued_by_the_lab_and_dials_loopback() {
        let secrets = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
        let issued = AdminKubeconfig::issue(&secrets, jiff::Timestamp::now()).expect("issue");
        let text = issued.to_text(ends().0, ends().1);
        for part in
            ["server: https://127.0.0.1:4567", "tls-server-name: 10.5.0.2", "current-context: admin@lab"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains(&secrets.certs.k8s.crt) && !text.contains(&secrets.certs.k8s.key));
        // The lab's own file has the form that it accepts.
        assert_eq!(AdminKubeconfig::of_foreign(&text).as_ref(), Ok(&issued));
    }

    #[test]
    fn only_three_inline_fields_of_a_foreign_file_are_used() {
        let taken = AdminKubeconfig::of_foreign(GIVEN).expect("read").to_text(ends().0, ends().1);
        for part in ["QQ==", "Qg==", "Qw==", "https://127.0.0.1:4567"] {
            assert!(taken.contains(part), "{part}: {taken}");
        }
        assert!(!taken.contains("6443"), "{taken}");
    }

    #[test]
    fn every_other_field_is_refused_by_name() {
        let user = "user: {client-certificate-data: Qg==, client-key-data: Qw==";
        for field in [
            "exec: {command: touch}",
            "auth-provider: {name: x}",
            "tokenFile: /etc/shadow",
            "token: abc",
            "client-key: /root/.ssh/id",
            "username: x",
            "as: root",
        ] {
            let text = GIVEN.replace(user, &format!("{user}, {field}"));
            let name = field.split(':').next().expect("name");
            let refused = AdminKubeconfig::of_foreign(&text).expect_err(field);
            assert_eq!(refused, KubeconfigError::Refused { path: format!("users[0].user.{name}") });
        }
        for field in
            ["proxy-url: 'http://x'", "certificate-authority: /etc/passwd", "insecure-skip-tls-verify: true"]
        {
            let text = GIVEN.replace("cluster: {server", &format!("cluster: {{{field}, server"));
            assert!(
                matches!(AdminKubeconfig::of_foreign(&text), Err(KubeconfigError::Refused { .. })),
                "{field}"
            );
        }
        let two = GIVEN.replace("users: [", "users: [{name: b, user: {exec: {command: x}}}, ");
        assert!(AdminKubeconfig::of_foreign(&two).is_err());
        assert!(AdminKubeconfig::of_foreign(&format!("{GIVEN}\nextensions: []")).is_err());
        assert!(AdminKubeconfig::of_foreign("clusters: 7").is_err());
        assert!(AdminKubeconfig::of_foreign(&"[".repeat(3 << 20)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn damaged_text_ends_without_a_panic(at in 0..GIVEN.len(), text in "[ -~\n&*é]{0,4}") {
            let mut damaged = GIVEN.to_owned();
            damaged.replace_range(at..=at, &text);
            let _ = AdminKubeconfig::of_foreign(&damaged);
        }
    }
}
