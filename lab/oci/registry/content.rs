//! HTTP responses with content: the complete content or one requested range (RFC 9110, section 14).

use std::{fs::File, io::SeekFrom};

use axum::{
    body::Body,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Chunk size for file reads, in bytes.
const CHUNK: usize = 256 << 10;

/// The requested part of the content. The end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Range(u64, u64),
    /// The range is outside the content.
    Outside,
}

impl Part {
    /// Determines the requested part of content with `length` bytes. Only GET supports ranges. The result
    /// is the complete content for other units than bytes, for several ranges, and for `If-Range`, because
    /// no response of this registry can satisfy that condition.
    pub fn of(method: &Method, headers: &HeaderMap, length: u64) -> Self {
        let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        match asked.and_then(|text| text.strip_prefix("bytes=")) {
            Some(range)
                if *method == Method::GET
                    && !headers.contains_key(header::IF_RANGE)
                    && !range.contains(',') =>
            {
                bounds(range.trim(), length).map_or(Self::Outside, |(start, end)| Self::Range(start, end))
            }
            _ => Self::Whole,
        }
    }

    /// Returns the start and the exclusive end; `None` if the range is outside the content.
    pub fn bounds(self, length: u64) -> Option<(u64, u64)> {
        match self {
            Self::Whole => Some((0, length)),
            Self::Range(start, end) => Some((start, end)),
            Self::Outside => None,
        }
    }
}

fn bounds(range: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = range.split_once('-')?;
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => (first, length),
        (Err(_), Ok(suffix)) if first.is_empty() => (length.saturating_sub(suffix), length),
        _ => return None,
    };
    (start < end).then_some((start, end))
}

/// Creates a response with a part of a file.
pub(super) async fn of_file(file: File, part: Part, method: &Method) -> std::io::Result<Response> {
    let mut file = tokio::fs::File::from_std(file);
    let length = file.metadata().await?.len();
    let body = match part.bounds(length) {
        Some((start, end)) if *method == Method::GET => {
            file.seek(SeekFrom::Start(start)).await?;
            Body::from_stream(ReaderStream::with_capacity(file.take(end - start), CHUNK))
        }
        _ => Body::empty(),
    };
    Ok(answer(part, length, body))
}

/// Creates a response with complete, small content.
pub(super) fn of_bytes(bytes: Vec<u8>, method: &Method) -> Response {
    let length = bytes.len() as u64;
    let body = if *method == Method::GET { Body::from(bytes) } else { Body::empty() };
    answer(Part::Whole, length, body)
}

fn answer(part: Part, length: u64, body: Body) -> Response {
    let mut response = body.into_response();
    let (status, size, range) = match part {
        Part::Whole => (StatusCode::OK, length, None),
        Part::Range(start, end) => {
            (StatusCode::PARTIAL_CONTENT, end - start, Some(format!("bytes {start}-{}/{length}", end - 1)))
        }
        Part::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, 0, Some(format!("bytes */{length}"))),
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, size.into());
    headers.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    if let Some(range) = range.and_then(|range| range.parse().ok()) {
        headers.insert(header::CONTENT_RANGE, range);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, range: &str, condition: bool) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().expect("value"));
        if condition {
            headers.insert(header::IF_RANGE, header::HeaderValue::from_static("\"x\""));
        }
        Part::of(&method, &headers, 100)
    }

    #[test]
    fn ranges_follow_the_rfc() {
        for (range, part) in [
            ("bytes=0-9", Part::Range(0, 10)),
            ("bytes=90-", Part::Range(90, 100)),
            ("bytes=-10", Part::Range(90, 100)),
            ("bytes=-1000", Part::Range(0, 100)),
            ("bytes=0-999", Part::Range(0, 100)),
            ("bytes=100-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=5-4", Part::Outside),
            ("bytes=0-18446744073709551615", Part::Range(0, 100)),
            ("lines=1-2", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
        ] {
            assert_eq!(asked(Method::GET, range, false), part, "{range}");
        }
        assert_eq!(asked(Method::HEAD, "bytes=0-9", false), Part::Whole);
        assert_eq!(asked(Method::GET, "bytes=0-9", true), Part::Whole);
        assert_eq!(Part::of(&Method::GET, &HeaderMap::new(), 100), Part::Whole);
    }
}
