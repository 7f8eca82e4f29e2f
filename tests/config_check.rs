//! `lab config check` against Talos' own library, for each release.

#[path = "config_check/differential.rs"]
mod differential;
#[path = "machinery/generated.rs"]
mod generated;
#[path = "machinery/oracle.rs"]
mod oracle;
#[path = "config_check/rules.rs"]
mod rules;
#[path = "support/validator.rs"]
mod validator;

use std::sync::OnceLock;

use generated::{cluster, version};
use lab_model::node::{Kind, NodeName};
use lab_plan::config::{ClusterConfig, NodeConfig, SecretsBundle, generate};

/// One bundle for all tests: making keys is the slow part.
fn secrets() -> &'static SecretsBundle {
    static SECRETS: OnceLock<SecretsBundle> = OnceLock::new();
    SECRETS.get_or_init(|| SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets"))
}

/// A config that the lab generates.
fn generated(cluster: &ClusterConfig, kind: Kind) -> String {
    let node = NodeConfig::new(NodeName::new("node-1").expect("name"), kind);
    generate(cluster, &node, secrets()).to_yaml().expect("yaml")
}
