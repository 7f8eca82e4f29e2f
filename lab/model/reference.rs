//! The parts of references.

use crate::Source;

/// Whether a source is a reference in a registry, and not a path.
pub fn is_reference(source: &str) -> bool {
    matches!(Source::parse(source), Ok(Source::Registry(_)))
}

/// Splits a reference into its name and its tag. Returns `None` for a path and for a reference without a tag.
pub fn name_and_tag(reference: &str) -> Option<(&str, &str)> {
    let without_digest = reference.split_once('@').map_or(reference, |(reference, _)| reference);
    let (name, tag) = without_digest.rsplit_once(':')?;
    (!tag.contains('/') && name.contains('/') && !name.starts_with(['/', '.'])).then_some((name, tag))
}

/// The name of a reference without tag and digest.
pub fn name_of(reference: &str) -> &str {
    let without_digest = reference.split_once('@').map_or(reference, |(reference, _)| reference);
    name_and_tag(without_digest).map_or(without_digest, |(name, _)| name)
}

/// Whether a name is below a registry, which may have a path.
pub fn is_below(name: &str, registry: &str) -> bool {
    name.strip_prefix(registry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_name_and_perhaps_a_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (reference, name, tag) in [
            ("ghcr.io/you/a:v1", "ghcr.io/you/a", Some("v1")),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a", None),
            (&format!("127.0.0.1:5000/a:v1@{digest}"), "127.0.0.1:5000/a", Some("v1")),
            (&format!("ghcr.io/you/a@{digest}"), "ghcr.io/you/a", None),
        ] {
            assert_eq!(
                (name_of(reference), name_and_tag(reference).map(|(_, tag)| tag)),
                (name, tag),
                "{reference}"
            );
        }
        assert!(is_reference("ghcr.io/you/a:v1") && !is_reference("./a") && !is_reference("/a:v1"));
        assert!(is_below("ghcr.io/you/a", "ghcr.io/you") && !is_below("ghcr.io/younger/a", "ghcr.io/you"));
    }
}
