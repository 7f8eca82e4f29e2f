//! Reads the entries of `checks:` in a scenario file.
//!
//! The file is parsed twice. The first pass reads the common keys of each entry and the names of its
//! checks. The second pass reads the parameters of one check from the same text, so that errors have a
//! position in the file.

use std::{fmt, marker::PhantomData};

use lab_model::{
    Diagnostic,
    diagnostic::{from_yaml, yaml_options},
    words::choice,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::{
    check::{CheckDefinition, ReadCheck},
    raw_check::RawCheck,
};

/// The keys that every entry may have.
pub(super) const COMMON_KEYS: [&str; 5] = ["id", "given", "when", "then", "failsWith"];

/// A function that reads the parameters of one kind of check.
pub type CheckReader<C> = fn(&Parameters<'_>) -> Result<ReadCheck<C>, serde_saphyr::Error>;

/// The location of a check's parameters.
pub struct Parameters<'a> {
    /// The text of the scenario file and the index of the entry in `checks`. `None` if the entry contains
    /// only the name of the check.
    entry: Option<(&'a str, usize)>,
}

impl Parameters<'_> {
    /// Parses the parameters of the check `name` as type `T`.
    pub(super) fn written<T: DeserializeOwned>(&self, name: &str) -> Result<T, serde_saphyr::Error> {
        let Some((text, entry)) = self.entry else {
            return serde_saphyr::from_str_with_options("{}", yaml_options());
        };
        let path = [Step::Key("checks"), Step::Item(entry), Step::Key(name)];
        serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), |file| {
            At { path: &path, value: PhantomData }.deserialize(file)
        })
    }
}

/// A well-formed entry of `checks`.
pub(super) enum ReadEntry<C: ?Sized> {
    /// A check. Its references are not validated yet.
    Check(&'static str, ReadCheck<C>),
    /// An entry that is not a check, with the problem.
    Refused(Diagnostic),
}

/// Reads entry `number` of `checks`.
///
/// # Errors
/// Returns an error if the entry is malformed.
pub(super) fn read_entry<C: ?Sized>(
    text: &str,
    number: usize,
    entry: &Spanned<RawCheck>,
    table: &[CheckDefinition<C>],
) -> Result<ReadEntry<C>, Box<Diagnostic>> {
    let names: Vec<&str> = table.iter().map(|definition| definition.name).collect();
    match &entry.value {
        RawCheck::Bare(name) => Ok(match table.iter().find(|definition| definition.name == *name) {
            Some(definition) => match (definition.read)(&Parameters { entry: None }) {
                Ok(read) => ReadEntry::Check(definition.name, read),
                Err(error) => ReadEntry::Refused(needs_more(entry, name, &error)),
            },
            None => {
                let mut problem = Diagnostic::at(entry, format!("unknown check \"{name}\""));
                problem.help = choice(name, &names, "checks");
                ReadEntry::Refused(problem)
            }
        }),
        RawCheck::Full(keys) => {
            if let Some((key, _)) = keys.others.iter().find(|(key, _)| !names.contains(&key.value.as_str())) {
                let known: Vec<&str> = COMMON_KEYS.iter().chain(&names).copied().collect();
                let mut problem = Diagnostic::at(key, format!("unknown key \"{}\"", key.value));
                problem.help = choice(&key.value, &known, "keys here");
                return Err(Box::new(problem));
            }
            let is_given = |name: &str| keys.others.iter().any(|(key, given)| *given && key.value == name);
            let parameters = Parameters { entry: Some((text, number)) };
            let mut found = Vec::new();
            for definition in table.iter().filter(|definition| is_given(definition.name)) {
                let read = (definition.read)(&parameters).map_err(|error| from_yaml(&error))?;
                found.push((definition.name, read));
            }
            let message = match found.as_slice() {
                [_] => None,
                [] => Some("this entry names no check".to_owned()),
                several => {
                    let names: Vec<&str> = several.iter().map(|(name, _)| *name).collect();
                    Some(format!("this entry names {} checks: {}", names.len(), names.join(", ")))
                }
            };
            Ok(match (message, found.pop()) {
                (None, Some((name, read))) => ReadEntry::Check(name, read),
                (message, _) => {
                    let help = format!(
                        "give each check an entry of its own, `- name` or `- name: {{…}}`; checks: {}",
                        names.join(", ")
                    );
                    ReadEntry::Refused(Diagnostic::at(entry, message.unwrap_or_default()).help(help))
                }
            })
        }
    }
}

/// Reports a check that requires parameters but consists only of its name.
fn needs_more(entry: &Spanned<RawCheck>, name: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let problem = Diagnostic::at(entry, format!("the check {name} needs to know more"));
    match error.without_snippet() {
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            problem.help(format!("write `{name}: {{ {field}: … }}`"))
        }
        _ => problem.help(format!("write `{name}: {{ … }}`")),
    }
}

/// A path segment in a file.
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// Deserializes the value at a path and skips everything else.
struct At<'a, T> {
    path: &'a [Step<'a>],
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for At<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        match self.path {
            [] => T::deserialize(deserializer),
            [Step::Key(_), ..] => deserializer.deserialize_map(self),
            [Step::Item(_), ..] => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for At<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entry that was read before")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let [Step::Key(wanted), rest @ ..] = self.path else { return Err(gone()) };
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                found = Some(map.next_value_seed(At { path: rest, value: PhantomData })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        found.ok_or_else(gone)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let [Step::Item(wanted), rest @ ..] = self.path else { return Err(gone()) };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        let found = list.next_element_seed(At { path: rest, value: PhantomData })?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        found.ok_or_else(gone)
    }
}

/// The error if the second pass does not find a value from the first pass.
fn gone<E: de::Error>() -> E {
    E::custom("an entry of `checks` is not where it was")
}
