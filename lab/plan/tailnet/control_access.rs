//! Where a tailnet client finds its control server.

/// Where and how a client reaches the control server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAccess {
    /// For `--login-server`.
    pub url: String,
    /// PEM certificate that the client must trust, when the server speaks HTTPS.
    pub authority: Option<String>,
}
