//! Reads the modules that machine configs load (Talos, `machine.kernel.modules`).

use lab_model::{files::read_text_bounded, yaml};

use crate::{
    evidence::ConfigModules,
    release::{ConfigFile, Release},
};

/// The largest machine config, in bytes.
const LARGEST: usize = 16 << 20;

pub(super) fn configs(release: &Release) -> Vec<ConfigModules> {
    let one = |config: &ConfigFile| {
        let path = release.directory.join(&config.file.path);
        let text =
            read_text_bounded(&path, LARGEST as u64).map_err(|error| format!("it cannot be read: {error}"));
        ConfigModules {
            role: config.role.clone(),
            file: config.file.path.display().to_string(),
            modules: text.and_then(|text| modules(&text)),
        }
    };
    release.configs.iter().map(one).collect()
}

fn modules(text: &str) -> Result<Vec<(String, lab_model::Position)>, String> {
    let wrong =
        |error: yaml::YamlError| format!("it is not YAML: line {}: {}", error.position.line, error.message);
    yaml::within_limits(text, LARGEST).map_err(wrong)?;
    let documents = yaml::documents(text).map_err(wrong)?;
    let entries = documents.iter().flat_map(|document| document.items_at(&["machine", "kernel", "modules"]));
    let named = entries.filter_map(|entry| {
        let name = entry.get(&["name"])?;
        Some((name.text()?.to_owned(), name.position))
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_their_lines_in_every_document() {
        let text = "machine:\n  kernel:\n    modules:\n      - name: drbd\n        parameters: [x=1]\n      - name: zfs\n---\nkind: x\n";
        let found = modules(text).expect("modules");
        let found: Vec<_> = found.iter().map(|(name, at)| (name.as_str(), at.line)).collect();
        assert_eq!(found, [("drbd", 4), ("zfs", 6)]);
        assert!(modules("machine: [").expect_err("not YAML").starts_with("it is not YAML: line 1"));
    }
}
