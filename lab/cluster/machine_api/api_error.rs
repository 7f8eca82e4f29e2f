//! Why a node does not answer, or refuses.

use std::{future::Future, net::IpAddr, time::Duration};

use tonic::{Code, Response, Status};

/// Why a machine API call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answered.
    #[error("the machine API of {node} cannot be reached: {reason}")]
    Unreachable {
        /// Whose.
        node: IpAddr,
        /// What was seen.
        reason: String,
    },
    /// The two sides do not trust each other.
    #[error(
        "no trusted connection to the machine API of {node}: {reason}; node and client hold secrets of different clusters"
    )]
    Tls {
        /// Whose.
        node: IpAddr,
        /// What the TLS library said.
        reason: String,
    },
    /// Not now, later perhaps.
    #[error("{node} is not ready to {action}: {message}")]
    NotYet {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// The node's words.
        message: String,
    },
    /// It has been done before.
    #[error("{node}: {action} was done before")]
    AlreadyExists {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
    },
    /// The node refuses the config.
    #[error("{node} refuses the machine config: {message}")]
    InvalidConfig {
        /// Whose.
        node: IpAddr,
        /// The node's words.
        message: String,
    },
    /// The client may not do that.
    #[error("{node} does not allow to {action}: {message}")]
    PermissionDenied {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// The node's words.
        message: String,
    },
    /// The node's version, or its mode, has no such call.
    #[error("{node} cannot {action} in its present mode or version")]
    Unimplemented {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
    },
    /// No answer in time.
    #[error("{node} did not {action} within {} s", limit.as_secs())]
    Deadline {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The credentials cannot be used.
    #[error("the client credentials {what}; generate them again from the cluster's secrets")]
    Credentials {
        /// What is wrong with them.
        what: &'static str,
    },
    /// Anything else the node said.
    #[error("{node} failed to {action}: {message}")]
    Other {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// The node's words.
        message: String,
    },
}

impl ApiError {
    /// Whether the same call may succeed later without anything being changed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NotYet { .. } | Self::Deadline { .. })
    }

    pub(super) fn unreachable(node: IpAddr, source: &dyn std::error::Error) -> Self {
        Self::Unreachable { node, reason: innermost(source) }
    }

    /// Tells a refused certificate from a closed port.
    pub(super) fn from_transport(node: IpAddr, source: &dyn std::error::Error) -> Self {
        let reason = innermost(source);
        let untrusted = ["certificate", "UnknownIssuer", "UnknownCA", "BadSignature", "BadCertificate"];
        if untrusted.iter().any(|word| reason.contains(word)) {
            Self::Tls { node, reason }
        } else {
            Self::Unreachable { node, reason }
        }
    }

    pub(super) fn shape(node: IpAddr, what: &'static str, source: &dyn std::error::Error) -> Self {
        Self::Other {
            node,
            action: "describe itself",
            message: format!("its {what} has an unknown shape: {source}"),
        }
    }

    pub(super) fn from_status(node: IpAddr, action: &'static str, status: &Status) -> Self {
        // What the node itself says comes without a source. With one, the status was made on this
        // side because the connection broke in the middle; its code is then Unknown or Cancelled.
        if std::error::Error::source(status).is_some() {
            return Self::from_transport(node, status);
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition => Self::NotYet { node, action, message },
            Code::AlreadyExists => Self::AlreadyExists { node, action },
            Code::InvalidArgument => Self::InvalidConfig { node, message },
            Code::PermissionDenied | Code::Unauthenticated => {
                Self::PermissionDenied { node, action, message }
            }
            Code::Unimplemented => Self::Unimplemented { node, action },
            Code::Unavailable => Self::from_transport(node, status),
            _ => Self::Other { node, action, message },
        }
    }
}

/// The text of the error at the end of the chain, which says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Runs a call within `limit` and turns its status into an [`ApiError`].
pub(super) async fn limited<T>(
    node: IpAddr,
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(ApiError::from_status(node, action, &status)),
        Err(_) => Err(ApiError::Deadline { node, action, limit }),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn seen(status: &Status) -> ApiError {
        ApiError::from_status([10, 5, 0, 2].into(), "bootstrap etcd", status)
    }

    #[test]
    fn a_connection_that_breaks_during_a_call_is_worth_another_try() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = seen(&Status::from_error(Box::new(reset)));
        assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");
        assert!(error.is_transient());
    }

    /// With TLS 1.3 the client learns only after its handshake that its certificate is refused.
    #[test]
    fn a_client_certificate_that_is_refused_late_is_a_lack_of_trust() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        let error = seen(&Status::from_error(Box::new(io::Error::other(alert))));
        assert!(matches!(error, ApiError::Tls { .. }), "{error:?}");
        assert!(!error.is_transient());
    }

    #[test]
    fn what_the_node_itself_says_is_told_in_its_words() {
        let error = seen(&Status::unknown("etcd data directory is not empty"));
        assert!(!error.is_transient());
        assert!(error.to_string().contains("etcd data directory is not empty"), "{error}");
        assert!(seen(&Status::failed_precondition("time is not in sync")).is_transient());
        let done = seen(&Status::already_exists("etcd"));
        assert!(matches!(done, ApiError::AlreadyExists { .. }), "{done:?}");
    }
}
