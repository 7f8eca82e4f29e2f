//! The administrator's credentials for the machine API.

use super::talosconfig::Talosconfig;

/// A client's proof of who it is, PEM in base64 as in a talosconfig.
#[derive(Clone)]
pub struct Credentials {
    /// PEM certificate of the machine API's authority.
    pub ca: String,
    /// PEM client certificate.
    pub crt: String,
    /// PEM private key of the client.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

impl Credentials {
    /// Those of the talosconfig's current context, if there is one.
    pub fn of(config: &Talosconfig) -> Option<Self> {
        let context = config.contexts.get(&config.context)?;
        Some(Self { ca: context.ca.clone(), crt: context.crt.clone(), key: context.key.clone() })
    }
}
