//! Errors of the machine API.

use std::{future::Future, net::IpAddr, time::Duration};

use lab_model::visible;
use tonic::{Code, Response, Status};

/// A failed machine API call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection to the node.
    #[error("the machine API of {node} cannot be reached: {reason}")]
    Unreachable {
        node: IpAddr,
        /// The text of the innermost transport error.
        reason: String,
    },
    /// The node and the client do not trust each other's certificate.
    #[error(
        "no trusted connection to the machine API of {node}: {reason}; node and client hold secrets of different clusters"
    )]
    Tls {
        node: IpAddr,
        /// The message of the TLS library.
        reason: String,
    },
    /// The node cannot do it yet; the same call may succeed later.
    #[error("{node} is not ready to {action}: {message}")]
    NotYet {
        node: IpAddr,
        /// The requested action, as a verb.
        action: &'static str,
        /// The message of the node.
        message: String,
    },
    /// The action was done before.
    #[error("{node}: {action} was done before")]
    AlreadyExists {
        node: IpAddr,
        /// The requested action, as a verb.
        action: &'static str,
    },
    /// The node rejects the machine config.
    #[error("{node} refuses the machine config: {message}")]
    InvalidConfig {
        node: IpAddr,
        /// The message of the node.
        message: String,
    },
    /// The client lacks the permission.
    #[error("{node} does not allow to {action}: {message}")]
    PermissionDenied {
        node: IpAddr,
        /// The requested action, as a verb.
        action: &'static str,
        /// The message of the node.
        message: String,
    },
    /// The node does not support the call in its version or mode.
    #[error("{node} cannot {action} in its present mode or version")]
    Unimplemented {
        node: IpAddr,
        /// The requested action, as a verb.
        action: &'static str,
    },
    /// The node did not respond in time.
    #[error("{node} did not {action} within {} s", limit.as_secs())]
    Deadline {
        node: IpAddr,
        /// The requested action, as a verb.
        action: &'static str,
        limit: Duration,
    },
    /// The client credentials are invalid.
    #[error("the client credentials {what}; generate them again from the cluster's secrets")]
    Credentials {
        /// The problem with the credentials.
        what: &'static str,
    },
    /// Any other error that the node returns.
    #[error("{node} failed to {action}: {message}")]
    Other {
        node: IpAddr,
        /// The requested action, as a verb.
        action: &'static str,
        /// The message of the node.
        message: String,
    },
}

impl ApiError {
    /// Whether the same call may succeed later without any change.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NotYet { .. } | Self::Deadline { .. })
    }

    pub(super) fn unreachable(node: IpAddr, source: &dyn std::error::Error) -> Self {
        Self::Unreachable { node, reason: innermost(source) }
    }

    /// Distinguishes a rejected certificate from a closed port.
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
        // A status that the node returns has no source. A status with a source was created by the client
        // because the connection broke during the call; its code is then Unknown or Cancelled.
        if std::error::Error::source(status).is_some() {
            return Self::from_transport(node, status);
        }
        let message = visible(status.message(), 2000);
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

/// The text of the innermost error in the chain, which is the most specific.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    visible(&last.to_string(), 600)
}

/// Runs a call within `limit` and converts its status to an [`ApiError`].
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

    /// With TLS 1.3 the client learns only after its handshake that the node rejected its certificate.
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
