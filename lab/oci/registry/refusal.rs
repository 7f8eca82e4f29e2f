//! What the registry says instead of content.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// An answer without content: a status, and a body as the OCI distribution specification v1.1 has it
/// ("Error codes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    pub(super) message: String,
}

/// The specification's error codes, as far as a registry that is only read has a use for them, and
/// the one that its own reference implementation uses for all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    /// code-1.
    BlobUnknown,
    /// code-4.
    DigestInvalid,
    /// code-7.
    ManifestUnknown,
    /// code-8.
    NameInvalid,
    /// code-9.
    NameUnknown,
    /// code-12.
    Denied,
    /// code-13.
    Unsupported,
    /// A failure that is not the client's.
    Unknown,
}

impl Refusal {
    /// Of something that is not there, or cannot be.
    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code, message: message.into() }
    }

    /// Of content that is there and cannot be served.
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: Code::Unknown, message: message.into() }
    }

    /// Of everything that would change the registry.
    pub(super) fn read_only() -> Self {
        let message = "this registry is only read from; `lab mirror pull` adds images to its mirror";
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: Code::Unsupported, message: message.to_owned() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "errors": [{ "code": self.code, "message": self.message }] });
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.status, json, body.to_string()).into_response();
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
