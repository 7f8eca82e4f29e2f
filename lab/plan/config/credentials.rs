//! The administrator's credentials for the machine API.

use super::talosconfig::Talosconfig;

/// Client credentials, PEM in base64 as in a talosconfig.
#[derive(Clone)]
pub struct Credentials {
    /// CA certificate of the machine API.
    pub ca: String,
    /// Client certificate.
    pub crt: String,
    /// Private key of the client.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

impl Credentials {
    /// Returns the credentials of the talosconfig's current context, if it exists.
    pub fn of(config: &Talosconfig) -> Option<Self> {
        let context = config.contexts.get(&config.context)?;
        Some(Self { ca: context.ca.clone(), crt: context.crt.clone(), key: context.key.clone() })
    }
}
