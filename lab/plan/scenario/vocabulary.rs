//! All keys and values of the format, derived from the types that parse it.

use std::collections::BTreeSet;

use serde::de::{
    Deserialize, Deserializer, IntoDeserializer, Visitor,
    value::{Error, MapDeserializer, SeqDeserializer},
};

use super::{
    check::CheckDefinition,
    check_entry::COMMON_KEYS,
    raw::{
        RawBudgets, RawCluster, RawCni, RawExpect, RawFault, RawLabPatches, RawNetwork, RawNode, RawPatches,
        RawScenario,
    },
};

/// Returns every valid key and value of a scenario file, with the checks of `table`.
pub fn vocabulary<C: ?Sized>(table: &[CheckDefinition<C>]) -> BTreeSet<&'static str> {
    let mut words: BTreeSet<&'static str> = [
        words_of::<RawScenario>(),
        words_of::<RawBudgets>(),
        words_of::<RawCluster>(),
        words_of::<RawNetwork>(),
        words_of::<RawCni>(),
        words_of::<RawNode>(),
        words_of::<RawPatches>(),
        words_of::<RawLabPatches>(),
        words_of::<RawFault>(),
        words_of::<RawExpect>(),
        words_of::<crate::config::Profile>(),
        words_of::<crate::scenario::Start>(),
        words_of::<crate::cluster::StartOrder>(),
        words_of::<crate::cluster::ImageDelivery>(),
        words_of::<crate::cluster::TalosContract>(),
        words_of::<lab_model::node::Kind>(),
        words_of::<lab_model::events::Step>(),
        words_of::<lab_model::events::TurnedAway>(),
        // The keys of enum variants cannot be derived; this list repeats them from `raw`.
        BTreeSet::from(["node", "at", "available", "step", "check", "turnedAway", "causeContains"]),
    ]
    .into_iter()
    .flatten()
    .chain(COMMON_KEYS)
    .collect();
    for definition in table {
        words.insert(definition.name);
        words.extend((definition.keys)());
    }
    words
}

/// Returns the field or variant names of a type, and those of its field types.
pub fn words_of<'de, T: Deserialize<'de>>() -> BTreeSet<&'static str> {
    // Deserialization without input fails, but records the names first.
    let mut words = BTreeSet::new();
    let _ = T::deserialize(Ask { words: &mut words, field: None });
    for field in words.clone() {
        let _ = T::deserialize(Ask { words: &mut words, field: Some(field) });
    }
    words
}

/// A deserializer that records the requested names, and returns at most one field of a struct.
struct Ask<'a> {
    words: &'a mut BTreeSet<&'static str>,
    field: Option<&'static str>,
}

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("only names are requested"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.words.extend(fields);
        match self.field {
            Some(field) => {
                let value = Ask { words: self.words, field: None };
                visitor.visit_map(MapDeserializer::new(std::iter::once((field, value))))
            }
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.words.extend(variants);
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(std::iter::once(self)))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Ask<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its names are of interest")]
    struct Outer {
        list: Vec<Inner>,
        choice: Option<Choice>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its names are of interest")]
    struct Inner {
        deep: u8,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Choice {
        FirstWord,
        SecondWord,
    }

    #[test]
    fn a_type_tells_its_words_and_those_of_its_fields() {
        let words = BTreeSet::from(["list", "choice", "deep", "first-word", "second-word"]);
        assert_eq!(words_of::<Outer>(), words);
    }
}
