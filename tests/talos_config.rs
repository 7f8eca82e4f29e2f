//! What the lab generates for Talos, judged by Sidero's machinery library: the releases that the
//! two contracts mean, each with its own schema and validation.

#[path = "machinery/oracle.rs"]
mod oracle;

use lab::{
    node::{Kind, NodeName},
    talos::{
        ClusterConfig, MachineConfig, NodeConfig, RegistryMirror, SecretsBundle, TalosContract, generate,
        talosconfig,
    },
};
use oracle::{Machinery, Version};
use rstest::rstest;
use serde_json::{Value, json};

fn version(contract: TalosContract) -> Version {
    match contract {
        TalosContract::V1_11 => Version::V1_11,
        TalosContract::V1_13 => Version::V1_13,
    }
}

fn cluster(contract: TalosContract) -> ClusterConfig {
    ClusterConfig {
        name: "lab".into(),
        endpoint_address: [10, 5, 0, 2].into(),
        contract,
        kubernetes_version: "1.34.2".into(),
        lan: "10.5.0.0/24".parse().expect("range"),
        gateway: [10, 5, 0, 1].into(),
        pods: "10.244.0.0/16".parse().expect("range"),
        services: "10.96.0.0/12".parse().expect("range"),
        dns_domain: "cluster.local".into(),
        mirrors: vec![RegistryMirror {
            upstream: "registry.k8s.io".into(),
            endpoint: "http://10.5.0.1:5000".into(),
        }],
        schedule_on_control_planes: false,
    }
}

fn secrets() -> SecretsBundle {
    SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets")
}

fn node(kind: Kind) -> NodeConfig {
    NodeConfig { name: NodeName::new("node-1").expect("name"), kind }
}

fn config(contract: TalosContract, kind: Kind) -> MachineConfig {
    generate(&cluster(contract), &node(kind), &secrets())
}

fn documents(yaml: &str) -> Vec<Value> {
    MachineConfig::from_yaml(yaml).expect("machinery writes YAML").documents().to_vec()
}

#[rstest]
fn generated_configs_are_valid(
    #[values(TalosContract::V1_11, TalosContract::V1_13)] contract: TalosContract,
    #[values(Kind::ControlPlane, Kind::Worker)] kind: Kind,
) {
    let text = config(contract, kind).to_yaml().expect("yaml");
    Machinery::of(version(contract)).validate(&text).expect("valid");
    // A newer Talos reads configs of an older contract: an upgrade keeps the config.
    Machinery::of(Version::V1_13).validate(&text).expect("valid for the newer release");
}

/// The lab's own additions, as a user would write them in a patch.
fn additions(contract: TalosContract, kind: Kind) -> String {
    let mut patch = json!({
        "machine": {
            "time": { "servers": ["10.5.0.1"] },
            "kubelet": { "nodeIP": { "validSubnets": ["10.5.0.0/24"] } },
            "registries": { "mirrors": {
                "registry.k8s.io": { "endpoints": ["http://10.5.0.1:5000"], "skipFallback": true },
            }},
        },
        "cluster": { "discovery": { "enabled": false } },
    });
    if kind == Kind::ControlPlane {
        patch["cluster"]["etcd"] = json!({ "advertisedSubnets": ["10.5.0.0/24"] });
        patch["cluster"]["allowSchedulingOnControlPlanes"] = json!(false);
        patch["cluster"]["apiServer"] = json!({ "auditPolicy": {
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{ "level": "None" }],
        }});
    }
    match contract {
        TalosContract::V1_11 => {
            patch["machine"]["network"] = json!({ "hostname": "node-1" });
            patch.to_string()
        }
        TalosContract::V1_13 => {
            let name = json!({
                "apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "off", "hostname": "node-1",
            });
            format!("{patch}\n---\n{name}\n")
        }
    }
}

#[rstest]
fn a_generated_config_is_what_talosctl_makes_plus_the_additions(
    #[values(TalosContract::V1_11, TalosContract::V1_13)] contract: TalosContract,
    #[values(Kind::ControlPlane, Kind::Worker)] kind: Kind,
) {
    let secrets = secrets();
    let mut machinery = Machinery::of(version(contract));
    let theirs = machinery
        .ask(&json!({
            "ask": "generate",
            "config": secrets.to_yaml().expect("yaml"),
            "cluster": {
                "name": "lab",
                "endpoint": "https://10.5.0.2:6443",
                "contract": contract.label(),
                "kubernetesVersion": "1.34.2",
                "kind": kind.machine_type(),
                "pods": ["10.244.0.0/16"],
                "services": ["10.96.0.0/12"],
                "dnsDomain": "cluster.local",
                "installDisk": "/dev/vda",
            },
        }))
        .expect("generate");
    let expected = machinery.patch(&theirs, &[additions(contract, kind)]).expect("patch");
    let ours = generate(&cluster(contract), &node(kind), &secrets).to_yaml().expect("yaml");
    let ours = machinery.normalise(&ours).expect("load");
    assert_eq!(documents(&ours), documents(&expected));
}

#[rstest]
#[case::unknown_key("machine: {kubelet: {imagee: x}}", "imagee")]
#[case::broken_range("machine: {kubelet: {nodeIP: {validSubnets: [10.5.0.0/99]}}}", "10.5.0.0/99")]
#[case::unknown_kind("{apiVersion: v1alpha1, kind: HostNameConfig}", "HostNameConfig")]
fn machinery_refuses_what_is_wrong(#[case] patch: &str, #[case] names: &str) {
    let text = config(TalosContract::V1_13, Kind::ControlPlane).patch([patch]).expect("patch").to_yaml();
    let refusal = Machinery::of(Version::V1_13).validate(&text.expect("yaml")).expect_err("refused");
    assert!(refusal.contains(names), "{refusal}");
}

#[test]
fn the_newer_contract_is_not_for_the_older_release() {
    let text = config(TalosContract::V1_13, Kind::Worker).to_yaml().expect("yaml");
    let refusal = Machinery::of(Version::V1_11).validate(&text).expect_err("refused");
    assert!(refusal.contains("grubUseUKICmdline"), "{refusal}");
}

#[rstest]
fn secrets_and_client_files_are_theirs(#[values(Version::V1_11, Version::V1_13)] version: Version) {
    let secrets = secrets();
    let mut machinery = Machinery::of(version);
    let bundle = secrets.to_yaml().expect("yaml");
    machinery.ask(&json!({ "ask": "secrets", "config": bundle })).expect("secrets bundle");
    let client = talosconfig("lab", &[[10, 5, 0, 2].into()], &secrets, jiff::Timestamp::now());
    let client = client.expect("talosconfig").to_yaml().expect("yaml");
    let roles = machinery.ask(&json!({ "ask": "talosconfig", "config": client })).expect("talosconfig");
    assert_eq!(roles, "[os:admin]");
}

#[test]
fn a_client_file_of_another_cluster_is_refused() {
    let now = jiff::Timestamp::now();
    let mut client = talosconfig("lab", &[], &secrets(), now).expect("talosconfig");
    client.contexts.get_mut("lab").expect("context").ca = secrets().certs.os.crt;
    let question = json!({ "ask": "talosconfig", "config": client.to_yaml().expect("yaml") });
    let refusal = Machinery::of(Version::V1_13).ask(&question).expect_err("refused");
    assert!(refusal.contains("unknown authority"), "{refusal}");
}
