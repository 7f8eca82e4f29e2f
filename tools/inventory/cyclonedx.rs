//! The bill of materials, in CycloneDX 1.6 as JSON.

use serde_json::{Value, json};

use crate::{Component, Inventory, Kind};

const FORMAT: &str = "CycloneDX";
const VERSION: &str = "1.6";
/// Property names of this project.
const PART: &str = "lab:part";

/// What the bill is of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The file name of the archive without its ending.
    pub archive: String,
    pub version: String,
    /// The time of the sources, in RFC 3339.
    pub time: String,
}

/// The document. The same inventory gives the same bytes.
pub fn bill_of_materials(inventory: &Inventory, subject: &Subject) -> Value {
    let root = format!("pkg:generic/lab@{}", subject.version);
    let components: Vec<_> = inventory.components().map(component).collect();
    let all: Vec<_> = inventory.components().map(Component::purl).collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": FORMAT,
        "specVersion": VERSION,
        "version": 1,
        "metadata": {
            "timestamp": subject.time,
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "lab",
                "version": subject.version,
                "description": subject.archive,
                "licenses": [{ "license": { "id": "Apache-2.0" } }],
                "purl": root,
            },
        },
        "components": components,
        "dependencies": [{ "ref": root, "dependsOn": all }],
    })
}

fn component(component: &Component) -> Value {
    let purl = component.purl();
    let kind = if component.kind == Kind::DebianPackage { "application" } else { "library" };
    let mut value = json!({
        "type": kind,
        "bom-ref": purl,
        "name": component.name,
        "version": component.version,
        "purl": purl,
        "properties": component.parts.iter().map(|part| json!({ "name": PART, "value": part })).collect::<Vec<_>>(),
    });
    if let Some(licence) = &component.licence {
        value["licenses"] = json!([{ "expression": licence }]);
    } else if !component.texts.is_empty() {
        value["licenses"] =
            json!([{ "license": { "name": format!("the texts of {} in licences.txt", component.name) } }]);
    }
    if let Some(sha256) = &component.sha256 {
        value["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    value
}

/// What in a document breaks the schema of CycloneDX 1.6: required properties, types and values, as far as this project writes
/// them (bom-1.6.schema.json).
pub fn faults(bill: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, expected) in [("bomFormat", FORMAT), ("specVersion", VERSION)] {
        if bill[key] != expected {
            faults.push(format!("{key} is {} and must be {expected}", bill[key]));
        }
    }
    if bill["version"].as_u64().is_none_or(|version| version == 0) {
        faults.push("version is no positive number".to_owned());
    }
    let root = &bill["metadata"]["component"];
    let listed = bill["components"].as_array().map(Vec::as_slice).unwrap_or_default();
    if listed.is_empty() {
        faults.push("components is empty".to_owned());
    }
    let mut refs = std::collections::BTreeSet::new();
    for component in std::iter::once(root).chain(listed) {
        faults.extend(faults_of(component));
        let reference = component["bom-ref"].as_str().unwrap_or_default();
        if !refs.insert(reference) {
            faults.push(format!("two components have the bom-ref {reference:?}"));
        }
    }
    for dependency in bill["dependencies"].as_array().into_iter().flatten() {
        let on = dependency["dependsOn"].as_array().into_iter().flatten();
        for reference in std::iter::once(&dependency["ref"]).chain(on) {
            if !reference.as_str().is_some_and(|reference| refs.contains(reference)) {
                faults.push(format!("the dependency {reference} is no component"));
            }
        }
    }
    faults
}

fn faults_of(component: &Value) -> Vec<String> {
    let name = component["name"].to_string();
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("component {name}: {what}"));
        }
    };
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    expect(text(&component["name"]), "name is required");
    expect(text(&component["version"]), "version is missing");
    expect(
        component["type"].as_str().is_some_and(|kind| ["application", "library"].contains(&kind)),
        "type is required, and one of those of the schema",
    );
    let purl = component["purl"].as_str().unwrap_or_default();
    expect(purl.starts_with("pkg:") && purl.contains('@') && !purl.contains(' '), "purl is no package URL");
    for licence in component["licenses"].as_array().into_iter().flatten() {
        let of_licence = &licence["license"];
        let choices = [&licence["expression"], &of_licence["id"], &of_licence["name"]];
        expect(
            choices.into_iter().filter(|choice| text(choice)).count() == 1,
            "a licence is not one of expression, id, name",
        );
    }
    for hash in component["hashes"].as_array().into_iter().flatten() {
        let content = hash["content"].as_str().unwrap_or_default();
        let is_hex = content.len() == 64 && content.bytes().all(|byte| byte.is_ascii_hexdigit());
        expect(hash["alg"] == "SHA-256" && is_hex, "a hash is no SHA-256");
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill() -> Value {
        let mut inventory = Inventory::default();
        let serde = Component {
            licence: Some("MIT OR Apache-2.0".into()),
            sha256: Some("ab".repeat(32)),
            ..Component::new(Kind::Crate, "serde", "1.0.0")
        };
        inventory.add(serde, "bin/lab", Ok::<_, ()>).expect("added");
        inventory
            .add(Component::new(Kind::DebianPackage, "kmod", "34.2-2"), "compute", Ok::<_, ()>)
            .expect("added");
        let subject =
            Subject { archive: "lab-1".into(), version: "0.1.0".into(), time: "2026-11-30T00:00:00Z".into() };
        bill_of_materials(&inventory, &subject)
    }

    #[test]
    fn what_is_written_has_what_the_schema_requires() {
        let bill = bill();
        assert_eq!(faults(&bill), Vec::<String>::new());
        assert_eq!(bill["components"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn each_broken_requirement_is_found() {
        let broken = |change: fn(&mut Value), told: &str| {
            let mut bill = bill();
            change(&mut bill);
            let faults = faults(&bill).join("; ");
            assert!(faults.contains(told), "{told}: {faults}");
        };
        broken(|bill| bill["specVersion"] = json!("9"), "specVersion");
        broken(|bill| bill["components"] = json!([]), "components is empty");
        broken(|bill| bill["components"][0]["type"] = json!("thing"), "type is required");
        broken(|bill| bill["components"][0]["name"] = Value::Null, "name is required");
        broken(|bill| bill["components"][1]["purl"] = json!("serde 1"), "no package URL");
        broken(
            |bill| bill["components"][0]["bom-ref"] = bill["components"][1]["bom-ref"].clone(),
            "two components",
        );
        broken(|bill| bill["components"][0]["licenses"] = json!([{}]), "not one of expression");
        broken(
            |bill| bill["components"][0]["hashes"] = json!([{ "alg": "SHA-256", "content": "x" }]),
            "no SHA-256",
        );
        broken(|bill| bill["dependencies"][0]["dependsOn"][0] = json!("pkg:cargo/no@1"), "is no component");
    }
}
