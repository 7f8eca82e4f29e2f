//! The key of a saved cluster: all inputs of a cluster. The lab restores a saved cluster only where a new one
//! would be equal.

use std::{collections::BTreeMap, fmt};

use lab_model::{Digest, accelerator::Accelerator, node::NodeName};
use lab_plan::{
    cluster::{Patch, Plan},
    config::SecretsBundle,
};
use lab_vm::{host::host_key, machine::QemuBinary};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Increased when the format of saved clusters changes, or when a change in formation makes old ones useless.
const FORMAT: u32 = 1;

/// Number of digits of a key's digest in its directory name.
const SHORT: usize = 16;

/// Maximum length of a value in a one-line message.
const TELLING: usize = 60;

/// Minimum length of a secret; shorter values would also match other words of a config.
const SHORTEST_SECRET: usize = 16;

/// The container images that nodes may have pulled before the save: references and digests.
pub type SavedImages = BTreeMap<String, String>;

/// The formation stage of a saved cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedStage {
    /// All nodes are up; nodes that need a late document wait for it.
    Formed,
    /// Late documents are applied, and the gateway is in the tailnet.
    Configured,
}

/// The inputs of a cluster, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmKey {
    /// The cluster's name: two clusters with one name count as the same cluster.
    pub cluster: String,
    pub stage: SavedStage,
    /// The name that the user gave it. A named cluster may have changed in any way, so only its name finds
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    ingredients: BTreeMap<String, String>,
}

impl WarmKey {
    /// The key of a plan. It excludes secrets and times, which differ in each run, and everything that
    /// follows the save: late documents and the tailnet.
    pub fn of(plan: &Plan, qemu: &QemuBinary, images: &SavedImages, stage: SavedStage) -> Self {
        let mut ingredients = BTreeMap::new();
        let mut add = |name: &str, value: String| ingredients.insert(name.to_owned(), value);
        add("lab", format!("{} format {FORMAT}", env!("CARGO_PKG_VERSION")));
        add("QEMU", format!("{} {}", qemu.version, qemu.package));
        add("accelerator", plan.accelerator.to_string());
        add("CPU model", plan.cpu_model.as_str().to_owned());
        if plan.accelerator != Accelerator::Tcg {
            // The guest sees the host's processor.
            add("host", host_key());
        }
        add("networks", json(&plan.spec.network));
        add("LAN", json(&plan.lan));
        add("container images", short_digest(&json(images)));
        add("image delivery", format!("{:?}", plan.spec.image_delivery));
        add("network plugin", short_digest(&json(&plan.spec.network_plugin)));
        if stage == SavedStage::Configured {
            // The serialization of patches hides secrets, but secrets are inputs too.
            let documents = |documents: &Vec<Patch>| -> Vec<String> {
                documents.iter().map(|document| document.text.clone()).collect()
            };
            let late: BTreeMap<_, _> =
                plan.spec.late_documents.iter().map(|(role, list)| (role, documents(list))).collect();
            add("late documents", short_digest(&json(&late)));
            add("tailnet", short_digest(&format!("{:?}", plan.spec.tailnet)));
        }
        for node in &plan.nodes {
            let name = &node.spec.name;
            let spec = &node.spec;
            let size = format!("{} vCPU, {}, disk {}", spec.vcpus, spec.memory, spec.disk);
            add(&format!("machine of {name}"), format!("{}, {}, {size}", spec.kind, spec.role));
            add(&format!("image of {name}"), image(&node.image.digest));
            add(&format!("kernel arguments of {name}"), node.kernel.text.clone());
            let config = node.config.to_yaml().unwrap_or_default();
            add(&format!("machine config of {name}"), short_digest(&without_secrets(&config, &plan.secrets)));
        }
        Self { cluster: plan.spec.name.to_string(), stage, name: None, ingredients }
    }

    /// The key of a cluster that the user saves under a name.
    #[must_use]
    pub fn named(self, name: NodeName) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The directory name.
    pub fn short(&self) -> String {
        short_digest(&json(self))
    }

    /// The differences from `other`, one per line.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> =
            self.ingredients.keys().chain(other.ingredients.keys()).collect();
        names
            .into_iter()
            .filter_map(|name| {
                let (mine, others) = (self.ingredients.get(name), other.ingredients.get(name));
                let said = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
                let (mine, others) = (said(mine), said(others));
                if mine == others {
                    None
                } else if mine.len().max(others.len()) > TELLING {
                    Some(format!("another {name}"))
                } else {
                    Some(format!("{name} {others} instead of {mine}"))
                }
            })
            .collect()
    }
}

impl fmt::Display for WarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cluster, self.short())
    }
}

fn image(digest: &Digest) -> String {
    digest.to_string()
}

pub(in crate::formation) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn hex_digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// The start of a text's digest, as a name.
pub(in crate::formation) fn short_digest(text: &str) -> String {
    let mut digest = hex_digest(text);
    digest.truncate(SHORT);
    digest
}

/// The text of a config with every secret of the bundle replaced, which leaves the user's settings.
fn without_secrets(text: &str, secrets: &SecretsBundle) -> String {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::to_value(secrets) {
        collect(&value, &mut found);
    }
    // A longer secret may contain a shorter one.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found.into_iter().fold(text.to_owned(), |text, secret| text.replace(&secret, "SECRET"))
}

fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) if text.len() >= SHORTEST_SECRET => found.push(text.clone()),
        serde_json::Value::Object(map) => map.values().for_each(|value| collect(value, found)),
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pairs: &[(&str, &str)]) -> WarmKey {
        let ingredients = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        WarmKey { cluster: "lab".into(), stage: SavedStage::Formed, name: None, ingredients }
    }

    #[test]
    fn a_difference_is_told_by_its_name() {
        let mine = key(&[("QEMU", "7.2.0"), ("image of cp-1", "sha256:a")]);
        let other = key(&[("QEMU", "10.0.0"), ("image of cp-1", "sha256:a"), ("host", "x")]);
        assert_eq!(mine.differences(&other), ["QEMU 10.0.0 instead of 7.2.0", "host x instead of nothing"]);
        assert!(mine.differences(&mine).is_empty());
        assert_ne!(mine.short(), other.short());
    }

    #[test]
    fn configs_of_two_runs_are_equal_without_their_secrets() {
        let now = jiff::Timestamp::now();
        let texts = [(); 2].map(|()| {
            let secrets = SecretsBundle::generate(now).expect("secrets");
            let text = format!("ca: {}\ntoken: {}\n", secrets.certs.k8s.crt, secrets.trustdinfo.token);
            without_secrets(&text, &secrets)
        });
        assert_eq!(texts[0], "ca: SECRET\ntoken: SECRET\n");
        assert_eq!(texts[0], texts[1]);
    }
}
