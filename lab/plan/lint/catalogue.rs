//! The catalogue of rules: what each finds, why it matters, an example that triggers it and one
//! that does not. The data is `catalogue.yaml`; tests run the examples.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use lab_model::Severity;
use serde::Deserialize;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// Its id, as findings carry it.
    pub id: String,
    /// How bad its findings are.
    #[serde(deserialize_with = "severity")]
    pub severity: Severity,
    /// What it finds, in one line.
    pub finds: String,
    /// Why it matters, and what Talos, or Kubernetes, or a person will see when nobody mends it.
    pub why: String,
    /// Files that trigger it, by name.
    pub bad: BTreeMap<String, String>,
    /// The same files mended: nothing is found in them.
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

/// All rules.
pub fn catalogue() -> &'static [CatalogueEntry] {
    &CATALOGUE
}
