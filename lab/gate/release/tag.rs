//! Tags of releases: the version of the platform, the version of Talos, and a revision, as in `v1.5.1-1.13.5-4`.

use std::fmt;

use semver::Version;
use serde::{Serialize, Serializer};

/// The longest tag (OCI distribution specification v1.1, "Pulling manifests").
const LONGEST: usize = 128;

/// A tag `vPLATFORM-TALOS-REVISION`, optionally followed by the name of a hardware variant. Tags order by platform,
/// Talos and revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseTag {
    pub platform: Version,
    pub talos: Version,
    pub revision: u64,
    /// The variant, e.g. `rpi5`; empty if the tag names none.
    pub variant: String,
}

impl ReleaseTag {
    /// Parses a tag. Returns `None` for tags of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = |text: &str| text.len() <= LONGEST && text.is_ascii();
        let mut left = text.strip_prefix('v').filter(|text| parts(text))?.splitn(4, '-');
        let platform = version(left.next()?)?;
        let talos = left.next()?;
        let talos = version(talos.strip_prefix('v').unwrap_or(talos))?;
        let revision = left.next()?;
        let digits = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_digit());
        let variant = left.next().unwrap_or_default();
        if !digits || (variant.is_empty() && text.ends_with('-')) {
            return None;
        }
        Some(Self { platform, talos, revision: revision.parse().ok()?, variant: variant.to_owned() })
    }

    /// The tag without its variant.
    pub fn release(&self) -> Self {
        Self { variant: String::new(), ..self.clone() }
    }
}

/// Three plain numbers: a pre-release would contain the separator.
fn version(text: &str) -> Option<Version> {
    Version::parse(text).ok().filter(|version| version.pre.is_empty() && version.build.is_empty())
}

impl fmt::Display for ReleaseTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { platform, talos, revision, variant } = self;
        write!(f, "v{platform}-{talos}-{revision}")?;
        if variant.is_empty() { Ok(()) } else { write!(f, "-{variant}") }
    }
}

impl Serialize for ReleaseTag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_order_by_platform_talos_and_revision_as_numbers() {
        let tags = [
            "v1.5.1-1.13.5-4",
            "v1.5.1-1.13.5-10",
            "v1.5.1-1.13.10-1",
            "v1.5.10-1.12.0-1",
            "v1.10.0-1.11.0-1",
        ];
        let parsed: Vec<_> = tags.iter().map(|tag| ReleaseTag::parse(tag).expect("tag")).collect();
        assert!(parsed.is_sorted(), "{parsed:?}");
        assert_eq!(parsed[0].to_string(), tags[0]);
        let board = ReleaseTag::parse("v1.5.1-v1.13.5-4-rpi5").expect("tag");
        assert_eq!((board.variant.as_str(), board.release()), ("rpi5", parsed[0].clone()));
    }

    #[test]
    fn other_tags_are_no_release_tags() {
        for text in [
            "latest",
            "v1.5.1",
            "v1.5.1-1.13.5",
            "v1.5.1-1.13.5-",
            "v1.5.1-1.13.5-x",
            "1.5.1-1.13.5-4",
            "v1.5-1.13.5-4",
            "v1.5.1-1.13.5-+4",
            "v1.5.1-1.13.5-4-",
        ] {
            assert_eq!(ReleaseTag::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_without_a_panic_and_a_tag_is_read_as_it_is_written(text in "v?[0-9.v-]{0,40}[a-z0-9-]{0,9}") {
            if let Some(tag) = ReleaseTag::parse(&text) {
                prop_assert_eq!(ReleaseTag::parse(&tag.to_string()), Some(tag));
            }
        }
    }
}
