//! Compares the format with its reference: every key is documented, and every example is valid.

use std::path::Path;

use lab_model::node::{Kind, NodeName};
use lab_plan::{
    cluster::Budgets,
    config::{ClusterConfig, LabPatchId, LabPatches, NodeConfig, SecretsBundle, TalosContract, generate},
    scenario::vocabulary,
};

use super::{CHECKS, parse};

const REFERENCE: &str = include_str!("../../docs/scenario-files.md");

#[test]
fn every_key_and_word_of_the_format_is_in_the_reference() {
    let names = vocabulary(CHECKS);
    assert!(names.len() > 50, "{names:?}");
    // A word counts as documented if it is in backquotes, alone or as the start of `word: …`.
    let explained =
        |name: &str| REFERENCE.contains(&format!("`{name}`")) || REFERENCE.contains(&format!("`{name}: "));
    let missing: Vec<_> = names.into_iter().filter(|name| !explained(name)).collect();
    assert_eq!(missing, [""; 0], "not in docs/scenario-files.md");
}

#[test]
fn every_example_of_the_reference_is_right() {
    let examples: Vec<&str> = REFERENCE
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split_once("\n```").map_or(rest, |(example, _)| example))
        .collect();
    assert!(examples.len() >= 7, "the examples are not found");
    let secrets = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
    for example in examples {
        let read = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
            Some("controlplane.yaml") => Ok(own_config(Kind::ControlPlane, &secrets)),
            Some("worker.yaml") => Ok(own_config(Kind::Worker, &secrets)),
            _ => std::fs::read_to_string(path),
        };
        if let Err(error) = parse("example", example, Path::new("."), &read) {
            panic!("{error}\n{example}");
        }
    }
}

/// A generated config without any settings of the lab, as made elsewhere.
fn own_config(kind: Kind, secrets: &SecretsBundle) -> String {
    let cluster = ClusterConfig {
        name: "elsewhere".into(),
        endpoint_address: [192, 168, 77, 10].into(),
        contract: TalosContract::V1_11,
        kubernetes_version: "1.34.1".into(),
        lan: "192.168.77.0/24".parse().expect("network"),
        gateway: [192, 168, 77, 1].into(),
        pods: "10.244.0.0/16".parse().expect("network"),
        services: "10.96.0.0/12".parse().expect("network"),
        dns_domain: "cluster.local".into(),
        mirrors: Vec::new(),
        image_cache: false,
        own_network_plugin: false,
        schedule_on_control_planes: false,
        lab_patches: LabPatches { off: LabPatchId::all().collect(), ..LabPatches::default() },
    };
    let node = NodeConfig::new(NodeName::new("any").expect("name"), kind);
    generate(&cluster, &node, secrets).to_yaml().expect("yaml")
}

#[test]
fn every_example_of_own_checks_is_right() {
    let page = include_str!("../../docs/own-checks.md");
    let examples = page.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest));
    let read = |_: &Path| {
        Ok("apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { replicas: 1 }\n"
            .to_owned())
    };
    for example in examples {
        if let Err(error) = parse("example", example, Path::new("."), &read) {
            panic!("{error}\n{example}");
        }
    }
    assert!(page.matches("```yaml").count() >= 2);
}

#[test]
fn the_budgets_of_the_reference_are_the_defaults() {
    let budgets = Budgets::default();
    for (key, value) in [
        ("boot", budgets.boot),
        ("maintenance", budgets.maintenance),
        ("call", budgets.call),
        ("secureApi", budgets.secure_api),
        ("kubernetesApi", budgets.kubernetes_api),
        ("ready", budgets.ready),
        ("answer", budgets.answer),
    ] {
        let row = format!("| `{key}` | {} |", value.as_secs());
        assert!(REFERENCE.contains(&row), "{row}");
    }
}

#[test]
fn every_check_has_a_row_and_every_row_a_check() {
    let table = REFERENCE.split("| check | parameters | passes when |").nth(1).expect("the table of checks");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut rows: Vec<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    rows.sort_unstable();
    names.sort_unstable();
    assert_eq!(rows, names);
}
