//! The catalogue of rules. Each entry contains a description, the reason for the rule, examples with a finding
//! and examples without findings. The data is in `catalogue/`. Tests run the examples.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use lab_model::Severity;
use serde::Deserialize;

use crate::config::TalosContract;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// The rule ID in findings.
    pub id: String,
    pub decides: Decides,
    /// The severity of the findings, unless an example has another one.
    #[serde(deserialize_with = "severity")]
    pub severity: Severity,
    /// A description of the findings, in one line.
    pub finds: String,
    /// The reason for the rule, and the symptoms in Talos, in Kubernetes or for the user if the problem
    /// is not fixed.
    pub why: String,
    /// The reason why an error of the lab, which Talos accepts, is certain.
    #[serde(default)]
    pub certain: Option<String>,
    /// Examples that trigger the rule.
    pub fires: Vec<Example>,
    /// Similar examples that trigger no rule.
    pub silent: Vec<Example>,
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decides {
    /// Talos' own library.
    Talos,
    /// The lab: Talos accepts such files.
    Lab,
}

/// The files of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Example {
    /// What the example shows.
    #[serde(default)]
    pub form: String,
    /// The release that reads the files, if it is not the newest one.
    #[serde(default)]
    pub talos: TalosContract,
    /// The severity, if it differs from the rule's.
    #[serde(default, deserialize_with = "some_severity")]
    pub severity: Option<Severity>,
    /// Words of the finding's message or help.
    #[serde(default)]
    pub says: Vec<String>,
    /// The place of the first finding, as `LINE:COLUMN`.
    #[serde(default)]
    pub at: Option<String>,
    /// IDs of warnings of other rules that these files also trigger.
    #[serde(default)]
    pub also: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub files: BTreeMap<String, String>,
}

impl fmt::Display for CatalogueEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.decides {
            Decides::Talos => "Talos' own library decides",
            Decides::Lab => "a rule of the lab; Talos accepts such files",
        };
        writeln!(f, "{} ({}; {by})\n\n{}\n\n{}", self.id, self.severity, self.finds, self.why)?;
        for (title, example) in [("found in", self.fires.first()), ("not in", self.silent.first())] {
            for (name, text) in example.map(|example| &example.files).into_iter().flatten() {
                writeln!(f, "\n{title} {name}:\n")?;
                text.lines().try_for_each(|line| writeln!(f, "    {line}"))?;
            }
        }
        Ok(())
    }
}

fn severity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Severity, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "error" => Ok(Severity::Error),
        "warning" => Ok(Severity::Warning),
        other => Err(serde::de::Error::custom(format!("severity {other}; write error or warning"))),
    }
}

fn some_severity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Severity>, D::Error> {
    severity(deserializer).map(Some)
}

/// Self-signed certificates of nobody; their keys were thrown away.
const CERTIFICATES: [(&str, &str); 2] = [
    ("CERTIFICATE-OF-ONE", include_str!("catalogue/one.crt.base64")),
    ("CERTIFICATE-OF-ANOTHER", include_str!("catalogue/another.crt.base64")),
];

/// Reads texts of files and fills in certificates.
fn texts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut texts = BTreeMap::<String, String>::deserialize(deserializer)?;
    for text in texts.values_mut() {
        for (name, certificate) in CERTIFICATES {
            *text = text.replace(name, certificate.trim());
        }
    }
    Ok(texts)
}

/// The topics of the catalogue.
const TOPICS: [&str; 4] = [
    include_str!("catalogue/talos.yaml"),
    include_str!("catalogue/files.yaml"),
    include_str!("catalogue/cluster.yaml"),
    include_str!("catalogue/nodes.yaml"),
];

static CATALOGUE: LazyLock<Vec<CatalogueEntry>> = LazyLock::new(|| {
    let topic = |text: &&str| -> Vec<CatalogueEntry> {
        serde_yaml::from_str(text).expect("the built-in catalogue is well-formed; a test reads it")
    };
    TOPICS.iter().flat_map(topic).collect()
});

/// Returns all rules.
pub fn catalogue() -> &'static [CatalogueEntry] {
    &CATALOGUE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_lab_has_a_reason_and_each_rule_has_examples_on_both_sides() {
        for entry in catalogue() {
            let error = entry.decides == Decides::Lab && entry.severity == Severity::Error;
            assert_eq!(entry.certain.is_some(), error, "{}", entry.id);
            assert!(!entry.fires.is_empty() && !entry.silent.is_empty(), "{}", entry.id);
        }
    }
}
