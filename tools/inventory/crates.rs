//! The crates that are linked to `lab`, as cargo resolves them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::{Component, Inventory, InventoryError, Kind, run::run, texts};

/// The part of the archive that has the crates.
const PART: &str = "bin/lab";
/// The package of the program.
const ROOT: &str = "lab";

/// Adds the crates that the program links, and Rust's own library.
pub fn add(inventory: &mut Inventory, project: &Path, target: &str) -> Result<(), InventoryError> {
    let text = run(Command::new("cargo")
        .args(["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", target])
        .current_dir(project))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| InventoryError::format("cargo metadata", error))?;
    let checksums = checksums(project)?;
    let mut without = Vec::new();
    for package in linked(&metadata)? {
        let component = component(package, &checksums)?;
        inventory.add(component, PART, |mut component| {
            let manifest = package["manifest_path"].as_str().unwrap_or_default();
            component.texts = texts::below(Path::new(manifest).parent().unwrap_or(Path::new("")))?;
            if component.texts.is_empty() && component.licence.is_none() {
                without.push(component.purl());
            }
            Ok::<_, InventoryError>(component)
        })?;
    }
    if !without.is_empty() {
        return Err(InventoryError::NoText(without));
    }
    let version = run(Command::new("rustc").arg("--version"))?;
    let version = version.split(' ').nth(1).unwrap_or_default().to_owned();
    let library = Component {
        licence: Some("MIT OR Apache-2.0".to_owned()),
        ..Component::new(Kind::Toolchain, "rust-std", version)
    };
    inventory.add(library, PART, Ok)
}

fn component(
    package: &Value,
    checksums: &BTreeMap<(String, String), String>,
) -> Result<Component, InventoryError> {
    let text = |key: &str| package[key].as_str().map(str::to_owned);
    let (Some(name), Some(version)) = (text("name"), text("version")) else {
        return Err(InventoryError::format("cargo metadata", "a package without name or version"));
    };
    let sha256 = checksums.get(&(name.clone(), version.clone())).cloned();
    // Old manifests separate licences by a slash.
    let licence = text("license").map(|licence| licence.replace('/', " OR "));
    Ok(Component { licence, sha256, ..Component::new(Kind::Crate, name, version) })
}

/// The packages of other projects that are linked: reached from the program by dependencies that are neither of builds nor
/// of tests. Procedural macros run in the compiler.
fn linked(metadata: &Value) -> Result<Vec<&Value>, InventoryError> {
    let wrong = |problem: &str| InventoryError::format("cargo metadata", problem);
    let packages = list(&metadata["packages"]).ok_or_else(|| wrong("no packages"))?;
    let packages: BTreeMap<&str, &Value> =
        packages.into_iter().filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let nodes = list(&metadata["resolve"]["nodes"]).ok_or_else(|| wrong("nothing is resolved"))?;
    let nodes: BTreeMap<&str, &Value> =
        nodes.into_iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let is_root = |package: &&Value| package["name"] == ROOT && package["source"].is_null();
    let root = packages.values().find(|package| is_root(package)).ok_or_else(|| wrong("there is no lab"))?;
    let mut queue = vec![root["id"].as_str().unwrap_or_default()];
    let mut seen: BTreeSet<&str> = queue.iter().copied().collect();
    while let Some(id) = queue.pop() {
        let node = nodes.get(id).ok_or_else(|| wrong("a package is not resolved"))?;
        for dependency in list(&node["deps"]).unwrap_or_default() {
            let on = dependency["pkg"].as_str().unwrap_or_default();
            let is_linked =
                list(&dependency["dep_kinds"]).unwrap_or_default().iter().any(|kind| kind["kind"].is_null());
            let package = packages.get(on).ok_or_else(|| wrong("a dependency is no package"))?;
            if is_linked && !is_macro(package) && seen.insert(on) {
                queue.push(on);
            }
        }
    }
    // The project's own crates have no source.
    let foreign = |package: &&Value| !package["source"].is_null();
    Ok(seen.into_iter().filter_map(|id| packages.get(id).copied()).filter(foreign).collect())
}

fn is_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets
        .flat_map(|target| target["kind"].as_array().into_iter().flatten())
        .any(|kind| kind == "proc-macro")
}

fn list(value: &Value) -> Option<Vec<&Value>> {
    value.as_array().map(|list| list.iter().collect())
}

/// The checksums of `Cargo.lock` by name and version.
fn checksums(project: &Path) -> Result<BTreeMap<(String, String), String>, InventoryError> {
    let path = project.join("Cargo.lock");
    let text = std::fs::read_to_string(&path).map_err(InventoryError::file("read", &path))?;
    let mut found = BTreeMap::new();
    for block in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.and_then(|line| line.strip_suffix('"')).map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (value("name"), value("version"), value("checksum"))
        {
            found.insert((name, version), checksum);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata() -> Value {
        let package = |name: &str, source: Value, kind: &str| json!({ "id": name, "name": name, "version": "1.0.0", "source": source, "targets": [{ "kind": [kind] }] });
        let dependency = |on: &str, kind: Value| json!({ "pkg": on, "dep_kinds": [{ "kind": kind }] });
        json!({
            "packages": [
                package("lab", Value::Null, "bin"),
                package("linked", json!("registry"), "lib"),
                package("below", json!("registry"), "lib"),
                package("macro", json!("registry"), "proc-macro"),
                package("tested", json!("registry"), "lib"),
                package("built", json!("registry"), "lib"),
            ],
            "resolve": { "nodes": [
                { "id": "lab", "deps": [
                    dependency("linked", Value::Null), dependency("macro", Value::Null),
                    dependency("tested", json!("dev")), dependency("built", json!("build")),
                ] },
                { "id": "linked", "deps": [dependency("below", Value::Null)] },
                { "id": "below", "deps": [] },
            ] },
        })
    }

    #[test]
    fn what_runs_in_the_compiler_or_in_tests_is_not_linked() {
        let metadata = metadata();
        let names: Vec<_> =
            linked(&metadata).expect("linked").iter().map(|package| package["name"].clone()).collect();
        assert_eq!(names, ["below", "linked"]);
    }

    #[test]
    fn metadata_without_the_program_is_an_error() {
        let mut metadata = metadata();
        metadata["packages"][0]["name"] = json!("another");
        assert!(linked(&metadata).is_err());
        assert!(linked(&json!({})).is_err());
    }
}
