//! The catalogue of rules. Each entry contains a description, the reason for the rule, an example with a
//! finding and an example without findings. The data is in `catalogue.yaml`. Tests run the examples.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use lab_model::Severity;
use serde::Deserialize;

/// A rule of `lab config check` with its explanation and examples.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// The rule ID in findings.
    pub id: String,
    /// The severity of the findings.
    #[serde(deserialize_with = "severity")]
    pub severity: Severity,
    /// A description of the findings, in one line.
    pub finds: String,
    /// The reason for the rule, and the symptoms in Talos, in Kubernetes or for the user if the problem
    /// is not fixed.
    pub why: String,
    /// Files that trigger the rule, by name.
    pub bad: BTreeMap<String, String>,
    /// The corrected files, which have no findings.
    pub good: BTreeMap<String, String>,
}

impl fmt::Display for CatalogueEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})\n\n{}\n\n{}", self.id, self.severity, self.finds, self.why)?;
        for (title, files) in [("found in", &self.bad), ("not in", &self.good)] {
            for (name, text) in files {
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

static CATALOGUE: LazyLock<Vec<CatalogueEntry>> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("catalogue.yaml"))
        .expect("the built-in catalogue is well-formed; a test reads it")
});

/// Returns all rules.
pub fn catalogue() -> &'static [CatalogueEntry] {
    &CATALOGUE
}
