//! Access to the control server for tailnet clients.

/// The address and the CA of the control server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAccess {
    /// The URL for `--login-server`.
    pub url: String,
    /// The PEM certificate that the client must trust, if the server uses HTTPS.
    pub authority: Option<String>,
}
