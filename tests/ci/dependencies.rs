//! Dependencies that a manifest names and no source uses.

use std::path::Path;

use anyhow::{Context, Result};
use regex::Regex;

use super::{files, root};

/// Only code that `build.rs` generates names these.
const GENERATED: [&str; 2] = ["prost", "tonic-prost"];

/// Dependencies that are named only for the features that another dependency needs, or shares with tests.
const FOR_ITS_FEATURES: [(&str, &str); 2] =
    [("lab/oci/Cargo.toml", "reqwest"), ("lab/cluster/Cargo.toml", "regex")];

/// Fuzz targets include files of the lab, and name the crates of those.
const INCLUDES_OTHERS: &str = "fuzz/Cargo.toml";

/// The dependencies of a manifest that none of the sources names; what only `tests` name belongs to
/// those for development.
fn unused(manifest: &str, sources: &str, tests: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest.parse().context("Cargo.toml")?;
    let mut unused = Vec::new();
    for table in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let names =
            manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys());
        for name in names.filter(|name| !GENERATED.contains(&name.as_str())) {
            let named = Regex::new(&format!(r"\b{}(::|!|;| as )", name.replace('-', "_")))?;
            let is_named = named.is_match(sources) || (table == "dev-dependencies" && named.is_match(tests));
            if !is_named {
                unused.push(name.clone());
            }
        }
    }
    Ok(unused)
}

#[test]
fn every_dependency_is_used() -> Result<()> {
    let files = files()?;
    let is_manifest = |name: &&String| Path::new(name).file_name().is_some_and(|file| file == "Cargo.toml");
    let manifests: Vec<_> = files.iter().filter(is_manifest).collect();
    let folder = |file: &str| Path::new(file).parent().unwrap_or(Path::new("")).to_owned();
    for manifest in manifests.iter().filter(|name| name.as_str() != INCLUDES_OTHERS) {
        let own = folder(manifest);
        let of_another = |file: &Path| {
            let others = manifests.iter().map(|other| folder(other));
            others
                .filter(|other| *other != own && other.starts_with(&own))
                .any(|other| file.starts_with(other))
        };
        let (mut sources, mut tests) = (String::new(), String::new());
        for file in files.iter().map(Path::new).filter(|file| file.starts_with(&own) && !of_another(file)) {
            if file.extension().is_some_and(|extension| extension == "rs") {
                let is_test = file.strip_prefix(&own)?.starts_with("tests");
                let text = if is_test { &mut tests } else { &mut sources };
                text.push_str(&std::fs::read_to_string(root().join(file))?);
            }
        }
        let text = std::fs::read_to_string(root().join(manifest))?;
        // Test targets of a crate may lie in the folder of all tests.
        if text.contains("\"../../tests/") {
            let is_test = |file: &&String| file.starts_with("tests/") && file.ends_with(".rs");
            for file in files.iter().filter(is_test) {
                tests.push_str(&std::fs::read_to_string(root().join(file))?);
            }
        }
        let mut unused = unused(&text, &sources, &tests)?;
        unused.retain(|name| !FOR_ITS_FEATURES.contains(&(manifest.as_str(), name.as_str())));
        assert_eq!(unused, Vec::<String>::new(), "{manifest} names crates that no source uses");
    }
    Ok(())
}

#[test]
fn a_dependency_that_no_source_names_is_found() -> Result<()> {
    let manifest = "[dependencies]\nhex = \"1\"\ntokio-stream = \"1\"\nprost = \"1\"\n[dev-dependencies]\nrstest = \"1\"\n";
    let (sources, tests) = ("use hex::encode; my_tokio_stream::next();", "rstest!(); tokio_stream::next();");
    assert_eq!(unused(manifest, sources, tests)?, ["tokio-stream"]);
    Ok(())
}

#[test]
fn yaml_is_read_by_two_crates() -> Result<()> {
    let mut found = std::collections::BTreeSet::new();
    for name in
        files()?.iter().filter(|name| Path::new(name).file_name().is_some_and(|file| file == "Cargo.toml"))
    {
        let manifest: toml::Table = std::fs::read_to_string(root().join(name))?.parse()?;
        for table in ["dependencies", "dev-dependencies"] {
            let names =
                manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
            let of_yaml =
                |name: &&String| ["yaml", "saphyr", "granit"].iter().any(|word| name.contains(word));
            found.extend(names.filter(of_yaml).cloned());
        }
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["serde-saphyr", "serde_yaml"]);
    Ok(())
}
