//! Parses the request path below `/v2/` according to the OCI distribution specification v1.1 ("Pulling
//! manifests" for names and tags, "Endpoints" for the paths).

use axum::http::StatusCode;
use lab_model::Digest;

use super::refusal::{Code, Refusal};

/// Maximum name length. Clients limit a reference (host name and repository) to 255 characters.
const NAME_LIMIT: usize = 255;
/// Maximum tag length.
const TAG_LIMIT: usize = 128;

/// The read endpoints of the specification.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// end-2.
    Blob { repository: &'a str, digest: Digest },
    /// end-3.
    Manifest { repository: &'a str, reference: Wanted<'a> },
    /// end-8a and end-8b.
    Tags { repository: &'a str },
    /// end-12a and end-12b.
    Referrers { digest: Digest },
}

/// The reference to a manifest in a repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    Tag(&'a str),
    Digest(Digest),
}

impl<'a> Target<'a> {
    /// Parses the path from its end, because repository names contain slashes.
    pub fn parse(path: &'a str) -> Result<Self, Refusal> {
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags { repository: name(repository)? });
        }
        let parts = path.rsplit_once('/').and_then(|(rest, last)| Some((rest.rsplit_once('/')?, last)));
        match parts {
            Some(((repository, "blobs"), digest)) => {
                Ok(Self::Blob { repository: name(repository)?, digest: sha256(digest)? })
            }
            Some(((repository, "manifests"), reference)) => {
                let repository = name(repository)?;
                let reference = if reference.contains(':') {
                    Wanted::Digest(sha256(reference)?)
                } else if is_tag(reference) {
                    Wanted::Tag(reference)
                } else {
                    let message = format!("\"{reference}\" is neither a tag nor a digest");
                    return Err(Refusal::not_found(Code::ManifestUnknown, message));
                };
                Ok(Self::Manifest { repository, reference })
            }
            Some(((repository, "referrers"), digest)) => {
                name(repository)?;
                // "Listing Referrers" requires 400 here; other endpoints require 404.
                let digest = sha256(digest)
                    .map_err(|refusal| Refusal { status: StatusCode::BAD_REQUEST, ..refusal })?;
                Ok(Self::Referrers { digest })
            }
            _ => Err(Refusal::not_found(
                Code::Unsupported,
                format!("/v2/{path} is not an endpoint for pulling"),
            )),
        }
    }
}

fn name(text: &str) -> Result<&str, Refusal> {
    if text.len() <= NAME_LIMIT && text.split('/').all(is_component) {
        return Ok(text);
    }
    Err(Refusal::not_found(Code::NameInvalid, format!("\"{text}\" is not a repository name")))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let own = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separates =
        |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    text.starts_with(own) && text.ends_with(own) && text.split(own).all(separates)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= TAG_LIMIT && text.starts_with(word) && text.chars().all(|c| word(c) || ".-".contains(c))
}

/// Parses `sha256:` and 64 lower-case hexadecimal digits (OCI image specification, "Digests"). The store
/// supports no other algorithm.
fn sha256(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text).filter(|digest| digest.to_string() == text).ok_or_else(|| {
        Refusal::not_found(Code::DigestInvalid, format!("\"{text}\" is not a digest of the form sha256:HEX"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repository_names_keep_their_slashes() {
        let reference = Wanted::Tag("v1.12.4");
        assert_eq!(
            Target::parse("coredns/coredns/manifests/v1.12.4"),
            Ok(Target::Manifest { repository: "coredns/coredns", reference })
        );
        let digest = Digest::of_bytes(b"x");
        assert_eq!(
            Target::parse(&format!("pause/blobs/{digest}")),
            Ok(Target::Blob { repository: "pause", digest })
        );
        assert_eq!(Target::parse("a/tags/tags/list"), Ok(Target::Tags { repository: "a/tags" }));
    }

    #[test]
    fn names_and_tags_follow_the_grammar() {
        for name in ["a", "a/b0", "a.b", "a_b", "a__b", "a---b", "0/1/2"] {
            assert!(name.split('/').all(is_component), "{name}");
        }
        for name in
            ["", "A", "a/", "/a", "a//b", "a..b", "a___b", "-a", "a-", "a.-b", "ä", "a b", "..", "a:b"]
        {
            assert!(!name.split('/').all(is_component), "{name}");
        }
        assert!(["v1", "_", "A.b-c_9"].into_iter().all(is_tag));
        assert!(is_tag(&"t".repeat(TAG_LIMIT)) && !is_tag(&"t".repeat(TAG_LIMIT + 1)));
        assert!(!["", ".a", "-a", "a/b", "a:b", "a b"].into_iter().any(is_tag));
    }

    proptest! {
        #[test]
        fn no_path_panics_and_what_is_read_names_no_file(path in "([a-z0-9./:%-]|sha256:|/blobs/|/manifests/){0,40}") {
            if let Ok(Target::Blob { repository, .. } | Target::Manifest { repository, .. }) = Target::parse(&path) {
                prop_assert!(!repository.contains("..") && !repository.starts_with('/'));
            }
        }
    }
}
