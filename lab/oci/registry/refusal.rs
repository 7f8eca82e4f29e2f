//! Error responses of the registry.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// An error response: a status, and a body according to the OCI distribution specification v1.1 ("Error
/// codes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    pub(super) message: String,
}

/// The error codes of the specification that a read-only registry uses, and the code that the reference
/// implementation uses for all other errors.
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
    /// A server error.
    Unknown,
}

impl Refusal {
    /// Creates an error for missing content or an invalid name.
    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code, message: message.into() }
    }

    /// Creates an error for existing content that cannot be served.
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: Code::Unknown, message: message.into() }
    }

    /// Creates an error for requests that would modify the registry.
    pub(super) fn read_only() -> Self {
        let message = "this registry is read-only; `lab mirror pull` adds images to its mirror";
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
