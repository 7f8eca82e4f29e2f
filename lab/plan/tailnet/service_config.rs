//! The gateway's `ExtensionServiceConfig` document with the name tailscale.
//!
//! The lab keeps the user's content. It fills in only the key and, for a local control server, the login
//! address. Source of the format: Talos's `ExtensionServiceConfig` (v1alpha1) and the variables of
//! Tailscale's `containerboot`.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AuthKey, ControlAccess, RouteProblem, parse_routes};

const KEY: &str = "TS_AUTHKEY";
const ROUTES: &str = "TS_ROUTES";
const EXTRA: &str = "TS_EXTRA_ARGS";
/// Switches off uploads of logs (Tailscale, envknob.NoLogsNoSupport).
pub const NO_LOGS: &str = "TS_NO_LOGS_NO_SUPPORT";
/// Path of the key in the container. `tailscale up` reads `file:PATH` (v1.90.6, cmd/tailscale/cli/up.go),
/// so the key does not appear in a process list.
const KEY_PATH: &str = "/var/lib/lab/auth-key";
/// Path of the CA certificate for an HTTPS control server in the container.
const AUTHORITY_PATH: &str = "/var/lib/lab/control-authority.crt";

/// An `ExtensionServiceConfig` document. `Debug` shows the variable names without values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionServiceConfig {
    /// `v1alpha1`.
    pub api_version: String,
    /// `ExtensionServiceConfig`.
    pub kind: String,
    /// Name of the extension.
    pub name: String,
    /// Files for the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_files: Vec<ConfigFile>,
    /// `NAME=value` entries, in the user's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// All other keys.
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// A file for an extension's container. `Debug` hides the content, which may be a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFile {
    pub content: String,
    /// Path in the container.
    pub mount_path: String,
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile").field("mount_path", &self.mount_path).finish_non_exhaustive()
    }
}

/// The reason that a file is not a valid tailscale configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServiceConfigError {
    /// The document is not YAML, or not an `ExtensionServiceConfig`.
    #[error("document {document} is not an ExtensionServiceConfig: {problem}")]
    Malformed {
        /// Document number in the file, from 1.
        document: usize,
        /// The problem and its position. Never quotes values.
        problem: String,
    },
    /// The document is missing.
    #[error("there is no ExtensionServiceConfig named tailscale; seen: {seen}")]
    Missing {
        /// The documents in the file.
        seen: String,
    },
    /// A variable has no value.
    #[error("entry {entry} of environment has no \"=\"; write NAME=value")]
    Variable {
        /// Entry number, from 1.
        entry: usize,
    },
    /// The routes are invalid.
    #[error(transparent)]
    Routes(#[from] RouteProblem),
    /// The document cannot be written as YAML.
    #[error("write the tailscale configuration as YAML: {0}")]
    Write(serde_yaml::Error),
}

impl ExtensionServiceConfig {
    /// Parses the document with the name tailscale from a file with one or more documents.
    ///
    /// # Errors
    /// Returns an error if the document is missing or malformed.
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
            // The message of serde_json would quote a value of the wrong type, and the value may be the
            // key.
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

    /// Returns the value of a variable. The last entry wins, as in the container.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .rev()
            .find_map(|entry| entry.split_once('=').filter(|(n, _)| *n == name))
            .map(|(_, v)| v)
    }

    /// Returns the advertised routes.
    ///
    /// # Errors
    /// Returns an error if `TS_ROUTES` is invalid.
    pub fn routes(&self) -> Result<Vec<IpNet>, RouteProblem> {
        parse_routes(self.variable(ROUTES).unwrap_or_default())
    }

    /// Adds the key as a file that `TS_AUTHKEY` refers to. If a control server is given, also appends
    /// `--login-server` to `TS_EXTRA_ARGS`, where the last option wins. For an HTTPS server, adds its CA
    /// certificate, which the client then trusts instead of the system's certificates.
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

    /// Prevents the requests of tailscaled to Tailscale's log server and relays, which a lab without internet
    /// access cannot answer. Returns `None` if the document decides this already. The spec of the official
    /// extension does not.
    #[must_use]
    pub fn without_outside_requests(&self) -> Option<Self> {
        if self.variable(NO_LOGS).is_some() {
            return None;
        }
        let mut config = self.clone();
        config.set(NO_LOGS, "true".to_owned());
        Some(config)
    }

    /// Returns the document as YAML, ready to apply. The text contains the key: never store it.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_yaml(&self) -> Result<String, ServiceConfigError> {
        serde_yaml::to_string(self).map_err(ServiceConfigError::Write)
    }

    /// Sets a variable in place, or appends it. Removes duplicates of the name.
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
    fn requests_to_the_outside_are_off_unless_the_document_decides() {
        let config = ExtensionServiceConfig::parse(FILE).unwrap();
        let quiet = config.without_outside_requests().expect("changed");
        assert_eq!(quiet.variable(NO_LOGS), Some("true"));
        assert_eq!(quiet.environment.len(), config.environment.len() + 1);
        let decided = ExtensionServiceConfig::parse(&format!("{FILE}  - {NO_LOGS}=false\n")).unwrap();
        assert_eq!(decided.without_outside_requests(), None);
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
