//! Files that are no machine configs: what they are instead.

use lab_model::{
    Position,
    yaml::{YamlNode, YamlValue},
};

use super::judge::is_json_patch;
use crate::user_config::UserConfig;

/// What a file is, if it is not a machine config.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Other {
    pub position: Position,
    pub is: &'static str,
    pub help: &'static str,
    /// Whether the file is certainly no config, even if Talos reads it.
    pub certain: bool,
}

/// Keys that together tell a kind of file, what it is, and what to do.
const KEYS: [(&[&str], &str, &str); 9] = [
    (
        &["trustdinfo", "certs"],
        "a secrets bundle of talosctl gen secrets",
        "make configs with it: talosctl gen config --with-secrets FILE",
    ),
    (
        &["contexts", "context"],
        "a talosconfig, the client file of talosctl",
        "remove it from the list; a scenario names it in cluster.talosconfig",
    ),
    (
        &["clusterName", "nodes"],
        "the input of talhelper",
        "run talhelper genconfig, and check what it writes (clusterconfig/*.yaml), or the directory as a whole",
    ),
    (
        &["endpoint", "advertisedSubnets"],
        "values of talm's templates",
        "run talm template, and check what it writes (nodes/*.yaml), or the directory as a whole",
    ),
    (
        &["name", "apiVersion", "version", "type"],
        "the chart of talm or of Helm",
        "check the configs that are rendered with it",
    ),
    (&["clusters", "users", "contexts"], "a kubeconfig", "remove it from the list: it is for kubectl"),
    (
        &["customization"],
        "a schematic of the image factory",
        "remove it from the list: it describes an image",
    ),
    (
        &["node", "metadata", "spec"],
        "the output of talosctl get",
        "take the config out of it: talosctl get machineconfig -o jsonpath={.spec}, or talosctl edit machineconfig",
    ),
    (
        &["metadata", "spec"],
        "the output of talosctl get, or an object of Kubernetes",
        "take the config out of spec; an object of Kubernetes goes into cluster.inlineManifests or to kubectl",
    ),
];

/// Returns what a file is, if it is not a machine config.
pub(super) fn other(file: &UserConfig) -> Option<Other> {
    if let Some(other) = encrypted(&file.documents).or_else(|| cloud_init(file.text())) {
        return Some(other);
    }
    let Some(first) = file.documents.first() else {
        return Some(Other {
            position: Position::START,
            is: "empty",
            help: "check the program that writes it: a failed rendering leaves an empty file",
            certain: false,
        });
    };
    let at = |is, help| Some(Other { position: first.position, is, help, certain: false });
    if first.entries().is_empty() {
        return match &first.value {
            YamlValue::List(_) if is_json_patch(first) => None,
            YamlValue::List(_) => {
                at("a list", "a machine config is a mapping, and items of a JSON patch have op and path")
            }
            _ => at("a single value", "a machine config has machine and cluster; give the path of its file"),
        };
    }
    let has = |key: &&str| first.entries().iter().any(|entry| entry.key == **key);
    // These keys are of machine configs.
    if has(&"machine") || first.text_at(&["apiVersion"]) == Some("v1alpha1") {
        return None;
    }
    if let Some((_, is, help)) = KEYS.iter().find(|(keys, ..)| keys.iter().all(has)) {
        return at(is, help);
    }
    // Other objects of Kubernetes have no spec.
    if has(&"kind") && has(&"metadata") {
        return at(
            "an object of Kubernetes",
            "put it into cluster.inlineManifests of the control planes, or apply it with kubectl",
        );
    }
    None
}

/// Values that sops or talm encrypted.
fn encrypted(documents: &[YamlNode]) -> Option<Other> {
    let mut position = None;
    for document in documents {
        position = position.or(document.get(&["sops"]).map(|_| document.position));
        document.each_scalar(&mut |_, node| {
            let marked = node.text().is_some_and(|text| text.starts_with("ENC[") && text.ends_with(']'));
            if marked && position.is_none() {
                position = Some(node.position);
            }
        });
    }
    Some(Other {
        position: position?,
        is: "encrypted",
        help: "decrypt it first: sops --decrypt FILE, or talm template for values in ENC[AGE…]",
        certain: true,
    })
}

fn cloud_init(text: &str) -> Option<Other> {
    let first = text.trim_start_matches('\u{feff}').lines().next()?;
    first.starts_with("#cloud-config").then_some(Other {
        position: Position::START,
        is: "user data of cloud-init",
        help: "Talos has no cloud-init: its user data is the machine config itself",
        certain: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(text: &str) -> Option<&'static str> {
        other(&UserConfig::parse("x.yaml", text).expect("YAML")).map(|other| other.is)
    }

    #[test]
    fn each_kind_is_told_and_machine_configs_are_none() {
        for (text, word) in [
            ("", "empty"),
            ("# nothing\n---\n", "empty"),
            ("machine: {token: 'ENC[AES256_GCM,data:x,type:str]'}\n", "encrypted"),
            ("machine: {type: worker}\nsops: {version: 3.9.0}\n", "encrypted"),
            ("#cloud-config\npackages: [qemu]\n", "cloud-init"),
            ("cluster: {id: a}\nsecrets: {}\ntrustdinfo: {}\ncerts: {}\n", "secrets bundle"),
            ("context: a\ncontexts: {a: {}}\n", "talosconfig"),
            ("clusterName: a\nendpoint: https://a\nnodes: []\n", "talhelper"),
            ("endpoint: https://a\nadvertisedSubnets: []\nfloatingIP: ''\n", "talm"),
            ("apiVersion: v2\nname: talm\ntype: application\nversion: 0.1.0\n", "chart"),
            ("apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n", "kubeconfig"),
            ("customization: {systemExtensions: {}}\n", "schematic"),
            ("node: 10.5.0.2\nmetadata: {}\nspec: |\n  machine: {}\n", "talosctl get"),
            ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {}\n", "Kubernetes"),
            ("- a\n- b\n", "a list"),
            ("just words\n", "a single value"),
        ] {
            assert!(is(text).is_some_and(|is| is.contains(word)), "{text:?}: {:?}", is(text));
        }
        for text in [
            "machine: {type: worker}\n",
            "cluster: {clusterName: a}\n",
            "apiVersion: v1alpha1\nkind: UserVolumeConfig\nname: a\n",
            "version: v1alpha1\ndebug: true\n",
            "- {op: remove, path: /machine/type}\n",
            "machine: {files: [{content: '#cloud-config'}]}\n",
            // What Talos shall refuse for its own reason.
            "kind: UserVolumeConfig\nname: a\n",
        ] {
            assert_eq!(is(text), None, "{text:?}");
        }
    }
}
