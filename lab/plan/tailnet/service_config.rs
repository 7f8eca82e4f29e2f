//! The gateway's own file: the `ExtensionServiceConfig` document named tailscale.
//!
//! What the user wrote stays as it is; only the key and, for a control server of the lab's own, the
//! address to log in to are filled in. Source of the form: Talos's `ExtensionServiceConfig`
//! (v1alpha1) and the variables of Tailscale's `containerboot`.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AuthKey, ControlAccess, RouteProblem, parse_routes};

const KEY: &str = "TS_AUTHKEY";
const ROUTES: &str = "TS_ROUTES";
const EXTRA: &str = "TS_EXTRA_ARGS";
/// Where the container finds its key: `tailscale up` reads `file:PATH` (v1.90.6, cmd/tailscale/cli/up.go), so
/// that the key stands in no process list.
const KEY_PATH: &str = "/var/lib/lab/auth-key";
/// Where the container finds the authority of an HTTPS control server.
const AUTHORITY_PATH: &str = "/var/lib/lab/control-authority.crt";

/// An `ExtensionServiceConfig` document. `Debug` names its variables without their values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionServiceConfig {
    /// `v1alpha1`.
    pub api_version: String,
    /// `ExtensionServiceConfig`.
    pub kind: String,
    /// The extension's name.
    pub name: String,
    /// Files put into the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_files: Vec<ConfigFile>,
    /// `NAME=value`, in the user's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// What else is there.
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// A file put into an extension's container. `Debug` hides its text, which may be a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFile {
    /// Its text.
    pub content: String,
    /// Its path in the container.
    pub mount_path: String,
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile").field("mount_path", &self.mount_path).finish_non_exhaustive()
    }
}

/// Why a file is not the gateway's tailscale configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServiceConfigError {
    /// Not YAML, or not this kind of document.
    #[error("document {document} is not an ExtensionServiceConfig: {problem}")]
    Malformed {
        /// Which document of the file, from 1.
        document: usize,
        /// What is wrong and where. Never quotes values.
        problem: String,
    },
    /// Not there.
    #[error("there is no ExtensionServiceConfig named tailscale; seen: {seen}")]
    Missing {
        /// The documents there are.
        seen: String,
    },
    /// A variable without a value.
    #[error("entry {entry} of environment has no \"=\"; write NAME=value")]
    Variable {
        /// Which entry, from 1.
        entry: usize,
    },
    /// Its routes cannot be read.
    #[error(transparent)]
    Routes(#[from] RouteProblem),
    /// It cannot be written.
    #[error("write the tailscale configuration as YAML: {0}")]
    Write(serde_yaml::Error),
}

impl ExtensionServiceConfig {
    /// Reads the document named tailscale out of a file of one or more documents.
    ///
    /// # Errors
    /// When it is not there or not of this form.
    pub fn parse(text: &str) -> Result<Self, ServiceConfigError> {
        let mut seen = Vec::new();
        for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
            let malformed = |problem: String| ServiceConfigError::Malformed { document: index + 1, problem };
            let value =
                serde_json::Value::deserialize(document).map_err(|error| malformed(error.to_string()))?;
            let field = |name: &str| value.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            if (field("kind").as_str(), field("name").as_str()) != ("ExtensionServiceConfig", "tailscale") {
                if !value.is_null() {
                    seen.push(format!("{} {}", field("kind"), field("name")).trim().to_owned());
                }
                continue;
            }
            // serde_json's own text would quote a value of the wrong type, which may be the key.
            let config: Self = serde_json::from_value(value).map_err(|_| {
                malformed(
                    "environment must be a list of NAME=value, configFiles one of content and mountPath"
                        .into(),
                )
            })?;
            if let Some(entry) = config.environment.iter().position(|entry| !entry.contains('=')) {
                return Err(ServiceConfigError::Variable { entry: entry + 1 });
            }
            return Ok(config);
        }
        let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
        Err(ServiceConfigError::Missing { seen })
    }

    /// The value of a variable; the last one counts, as in the container.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .rev()
            .find_map(|entry| entry.split_once('=').filter(|(n, _)| *n == name))
            .map(|(_, v)| v)
    }

    /// The routes it advertises.
    ///
    /// # Errors
    /// When `TS_ROUTES` cannot be read.
    pub fn routes(&self) -> Result<Vec<IpNet>, RouteProblem> {
        parse_routes(self.variable(ROUTES).unwrap_or_default())
    }

    /// The same document with the key in it, as a file that `TS_AUTHKEY` names, and, when there is one, the control server to log in to:
    /// `--login-server` is appended to what `TS_EXTRA_ARGS` has, where the last one counts. For an
    /// HTTPS server its authority is put beside it and trusted in place of the system's.
    #[must_use]
    pub fn with_login(&self, key: &AuthKey, access: Option<&ControlAccess>) -> Self {
        let mut config = self.clone();
        config.set(KEY, format!("file:{KEY_PATH}"));
        config
            .config_files
            .push(ConfigFile { content: key.reveal().to_owned(), mount_path: KEY_PATH.to_owned() });
        if let Some(access) = access {
            let flag = format!("--login-server={}", access.url);
            let extra = match config.variable(EXTRA).map(str::trim) {
                None | Some("") => flag,
                Some(given) => format!("{given} {flag}"),
            };
            config.set(EXTRA, extra);
            if let Some(authority) = &access.authority {
                config.set("SSL_CERT_FILE", AUTHORITY_PATH.to_owned());
                config
                    .config_files
                    .push(ConfigFile { content: authority.clone(), mount_path: AUTHORITY_PATH.to_owned() });
            }
        }
        config
    }

    /// The document as YAML, ready to be applied. It holds the key: never to be written down.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_yaml(&self) -> Result<String, ServiceConfigError> {
        serde_yaml::to_string(self).map_err(ServiceConfigError::Write)
    }

    /// Sets a variable in its place, or at the end; a second one of the name goes.
    fn set(&mut self, name: &str, value: String) {
        let is_it = |entry: &String| entry.split_once('=').is_some_and(|(n, _)| n == name);
        let at = self.environment.iter().position(is_it).unwrap_or(self.environment.len());
        self.environment.retain(|entry| !is_it(entry));
        self.environment.insert(at, format!("{name}={value}"));
    }
}

impl fmt::Debug for ExtensionServiceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            self.environment.iter().map(|entry| entry.split('=').next().unwrap_or_default()).collect();
        f.debug_struct("ExtensionServiceConfig")
            .field("name", &self.name)
            .field("environment", &names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: gateway\n---\n\
        apiVersion: v1alpha1\nkind: ExtensionServiceConfig\nname: tailscale\nenvironment:\n  - TS_HOSTNAME=demo-gateway\n  \
        - TS_AUTHKEY=tskey-placeholder\n  - TS_ROUTES=10.96.0.0/12,10.244.0.0/16\n  - TS_EXTRA_ARGS=--ssh=false --accept-dns=false\n  \
        - TS_USERSPACE=false\n  - X_EMPTY=\n";

    fn key() -> AuthKey {
        AuthKey::new("planted-key", "a test").unwrap()
    }

    fn access(authority: Option<&str>) -> ControlAccess {
        ControlAccess { url: "http://10.5.0.1:8080".into(), authority: authority.map(str::to_owned) }
    }

    #[test]
    fn the_users_lines_stay_and_only_key_and_login_server_change() {
        let config = ExtensionServiceConfig::parse(FILE).unwrap();
        assert_eq!(config.routes().unwrap().len(), 2);
        assert_eq!(config.variable("TS_HOSTNAME"), Some("demo-gateway"));
        insta::assert_snapshot!(config.with_login(&key(), Some(&access(None))).to_yaml().unwrap());
    }

    #[test]
    fn a_real_tailnet_only_gets_the_key() {
        let config = ExtensionServiceConfig::parse(FILE).unwrap();
        let filled = config.with_login(&key(), None);
        let changed: Vec<_> =
            (config.environment.iter().zip(&filled.environment)).filter(|(a, b)| a != b).collect();
        assert_eq!(
            changed,
            [(&"TS_AUTHKEY=tskey-placeholder".to_owned(), &format!("TS_AUTHKEY=file:{KEY_PATH}"))]
        );
        assert_eq!(filled.config_files[0].content, "planted-key");
    }

    #[test]
    fn an_authority_is_laid_beside_and_trusted() {
        let config =
            ExtensionServiceConfig::parse(FILE).unwrap().with_login(&key(), Some(&access(Some("PEM"))));
        assert_eq!(config.variable("SSL_CERT_FILE"), Some(AUTHORITY_PATH));
        assert_eq!(config.config_files[1].mount_path, AUTHORITY_PATH);
    }

    #[test]
    fn what_is_wrong_is_named_without_values() {
        let error = |text: &str| ExtensionServiceConfig::parse(text).unwrap_err().to_string();
        let head = "apiVersion: v1alpha1\nkind: ExtensionServiceConfig\nname: tailscale\n";
        assert!(error("kind: HostnameConfig\n").ends_with("seen: HostnameConfig"));
        assert!(error("").ends_with("seen: nothing"));
        assert!(error(&format!("{head}environment: [a: planted-key]\n")).contains("list of NAME=value"));
        let all = [
            error(&format!("{head}environment: [planted-key]\n")),
            error(&format!("{head}environment: planted-key\n")),
        ];
        assert!(all[0].contains("entry 1") && !all.concat().contains("planted"), "{all:?}");
        let filled = ExtensionServiceConfig::parse(FILE).unwrap().with_login(&key(), None);
        assert!(!format!("{filled:?}").contains("planted"));
    }

    proptest! {
        #[test]
        fn any_environment_survives_being_filled_in(
            values in proptest::collection::vec(("[A-SU-Z_]{1,8}", "[ -~]{0,20}"), 0..6)
        ) {
            let lines: Vec<_> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let document = serde_json::json!({ "apiVersion": "v1alpha1", "kind": "ExtensionServiceConfig",
                "name": "tailscale", "environment": lines });
            let config = ExtensionServiceConfig::parse(&document.to_string()).unwrap();
            let filled = config.with_login(&key(), Some(&access(None)));
            prop_assert_eq!(&filled.environment[..lines.len()], &lines[..]);
            let again = ExtensionServiceConfig::parse(&filled.to_yaml().unwrap()).unwrap();
            prop_assert_eq!(again, filled);
        }
    }
}
