//! The reference of the format against the format: every key is explained, every example is right.

use std::{collections::BTreeSet, path::Path};

use lab_model::node::{Kind, NodeName};
use lab_plan::{
    cluster::Budgets,
    config::{ClusterConfig, LabPatchId, LabPatches, NodeConfig, SecretsBundle, TalosContract, generate},
};
use serde::de::{Deserialize, Deserializer, Visitor, value::Error};

use super::{Check, Scenario, raw};

const REFERENCE: &str = include_str!("../../docs/scenario-files.md");

/// Notes the field or variant names that a type asks its deserializer for, and gives it nothing.
struct Names<'a>(&'a mut BTreeSet<&'static str>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("only names are asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(variants);
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn names_of<'de, T: Deserialize<'de>>() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    let _ = T::deserialize(Names(&mut names));
    names
}

fn all_names() -> BTreeSet<&'static str> {
    [
        names_of::<raw::RawScenario>(),
        names_of::<raw::RawBudgets>(),
        names_of::<raw::RawCluster>(),
        names_of::<raw::RawNetwork>(),
        names_of::<raw::RawCni>(),
        names_of::<raw::RawNode>(),
        names_of::<raw::RawPatches>(),
        names_of::<raw::RawLabPatches>(),
        names_of::<lab_plan::config::Profile>(),
        names_of::<raw::check::RawCheckKeys>(),
        names_of::<raw::check::RawArchitecture>(),
        names_of::<raw::check::RawArchitectureName>(),
        names_of::<raw::check::RawPodNetwork>(),
        names_of::<raw::check::RawPowerCycle>(),
        names_of::<raw::check::RawPartition>(),
        names_of::<raw::check::RawLinkShape>(),
        names_of::<raw::RawFault>(),
        names_of::<raw::RawExpect>(),
        names_of::<crate::session::Start>(),
        names_of::<lab_plan::cluster::StartOrder>(),
        names_of::<lab_plan::cluster::ImageDelivery>(),
        names_of::<lab_plan::config::TalosContract>(),
        names_of::<lab_model::node::Kind>(),
        names_of::<lab_model::events::Step>(),
        names_of::<lab_model::events::TurnedAway>(),
        // Keys of enum variants cannot be asked for; these are the ones in `raw`.
        BTreeSet::from(["node", "at", "available", "step", "check", "turnedAway", "causeContains"]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_key_and_word_of_the_format_is_in_the_reference() {
    let names = all_names();
    assert!(names.len() > 50, "{names:?}");
    // A word counts as explained where it stands in backquotes, alone or at the head of `word: …`.
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
        if let Err(error) = Scenario::parse("example", example, Path::new("."), &read) {
            panic!("{error}\n{example}");
        }
    }
}

/// A config as people make it elsewhere: generated, without anything of the lab's.
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
    let node = NodeConfig { name: NodeName::new("any").expect("name"), kind };
    generate(&cluster, &node, secrets).to_yaml().expect("yaml")
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
fn the_names_of_checks_are_the_keys_of_the_file() {
    let mut keys = names_of::<raw::check::RawCheckKeys>();
    for common in ["id", "given", "when", "then"] {
        keys.remove(common);
    }
    assert_eq!(keys, BTreeSet::from(Check::NAMES));
}
