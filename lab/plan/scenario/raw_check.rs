//! An entry of `checks:` as written. Its parameters are read later.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::raw::{RawFault, Text};

/// An entry: the name of a check alone, or a mapping with the name as one of the keys.
#[derive(Debug)]
pub(super) enum RawCheck {
    Bare(String),
    Full(Box<RawCheckEntry>),
}

#[derive(Debug, Default)]
pub(super) struct RawCheckEntry {
    pub id: Option<Text>,
    pub given: Option<String>,
    pub when: Option<String>,
    pub then: Option<String>,
    pub fails_with: Option<Spanned<RawFault>>,
    /// The other keys, and whether each key has a value.
    pub others: Vec<(Text, bool)>,
}

impl<'de> Deserialize<'de> for RawCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CheckVisitor;

        impl<'de> Visitor<'de> for CheckVisitor {
            type Value = RawCheck;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a check or a mapping with the name of a check as a key")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<RawCheck, E> {
                Ok(RawCheck::Bare(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawCheck, A::Error> {
                let mut entry = RawCheckEntry::default();
                while let Some(key) = map.next_key::<Text>()? {
                    match key.value.as_str() {
                        "id" => entry.id = map.next_value()?,
                        "given" => entry.given = map.next_value()?,
                        "when" => entry.when = map.next_value()?,
                        "then" => entry.then = map.next_value()?,
                        "failsWith" => entry.fails_with = map.next_value()?,
                        _ => {
                            let given = map.next_value::<Option<IgnoredAny>>()?.is_some();
                            entry.others.push((key, given));
                        }
                    }
                }
                Ok(RawCheck::Full(entry.into()))
            }
        }

        deserializer.deserialize_any(CheckVisitor)
    }
}
