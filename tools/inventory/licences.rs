//! The licences of everything that is linked or shipped, as one text file.

use std::{collections::BTreeMap, fmt::Write};

use crate::{Inventory, Kind};

const RULE: &str = "--------------------------------------------------------------------------------";

/// The list of components with their licences, and then each text once, with the components that have it.
pub fn licences(inventory: &Inventory) -> String {
    let mut out = "This archive contains software of others. Each line names a component, its licence as the component declares it or as \
                   its texts\nare, and the parts of the archive that contain it. The texts follow.\n\nThe sources of each version of the Debian \
                   packages: Debian's snapshot archive\n"
        .to_owned();
    for (title, kinds) in [
        ("Crates and libraries that are linked to lab", &[Kind::Crate, Kind::Toolchain][..]),
        ("Go modules", &[Kind::GoModule]),
        ("Debian packages", &[Kind::DebianPackage]),
    ] {
        let _ = writeln!(out, "\n{RULE}\n{title}\n{RULE}\n");
        for component in inventory.components().filter(|component| kinds.contains(&component.kind)) {
            let licence = component.licence.as_deref().unwrap_or(match component.texts.is_empty() {
                true => "not recorded",
                false => "see its text",
            });
            let parts: Vec<_> = component.parts.iter().map(String::as_str).collect();
            let _ =
                writeln!(out, "{} {}: {licence} ({})", component.name, component.version, parts.join(", "));
        }
    }
    for ((_, text), owners) in texts(inventory) {
        let _ = writeln!(out, "\n{RULE}\n{}\n{RULE}\n\n{}", owners.join("\n"), text.trim_end());
    }
    out
}

/// Each text with its owners. Texts that differ only in white space are one.
fn texts(inventory: &Inventory) -> BTreeMap<(usize, &str), Vec<String>> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: BTreeMap<usize, (&str, Vec<String>)> = BTreeMap::new();
    for component in inventory.components() {
        for text in &component.texts {
            let words = text.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let next = numbers.len();
            let number = *numbers.entry(words).or_insert(next);
            let owner = format!("{} {}: {}", component.name, component.version, text.file);
            found.entry(number).or_insert_with(|| (&text.text, Vec::new())).1.push(owner);
        }
    }
    found.into_iter().map(|(number, (text, owners))| ((number, text), owners)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Component, LicenceText};

    #[test]
    fn a_text_is_printed_once_and_every_component_is_listed() {
        let mut inventory = Inventory::default();
        for (name, text) in
            [("a", "Permission is\ngranted"), ("b", "Permission  is granted\n"), ("c", "another")]
        {
            let component = Component {
                texts: vec![LicenceText { file: "LICENSE".into(), text: text.into() }],
                ..Component::new(Kind::Crate, name, "1.0")
            };
            inventory.add(component, "bin/lab", Ok::<_, ()>).expect("added");
        }
        let text = licences(&inventory);
        assert_eq!(text.matches("granted").count(), 1);
        for told in ["a 1.0: see its text (bin/lab)", "a 1.0: LICENSE\nb 1.0: LICENSE\n", "another"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
