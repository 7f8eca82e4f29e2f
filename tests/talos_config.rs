//! What the lab generates for Talos, judged by Sidero's machinery library: the releases that the
//! contracts mean, each with its own schema and validation.

#[path = "machinery/generated.rs"]
mod generated;
#[path = "machinery/oracle.rs"]
mod oracle;
#[path = "machinery/own_configs.rs"]
mod own_configs;
#[path = "support/validator.rs"]
mod validator;

use generated::{cluster, version};
use lab_model::node::{Kind, NodeName};
use lab_plan::config::{
    AppliesTo, ClusterConfig, LabPatchId, LabPatches, MachineConfig, NodeConfig, Profile, SecretsBundle,
    TalosContract, generate, talosconfig,
};
use oracle::{Machinery, Version};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn secrets() -> SecretsBundle {
    SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets")
}

fn node(kind: Kind) -> NodeConfig {
    NodeConfig::new(NodeName::new("node-1").expect("name"), kind)
}

fn config(contract: TalosContract, kind: Kind) -> MachineConfig {
    generate(&cluster(contract), &node(kind), &secrets())
}

/// A config as the library writes it.
fn normalise(machinery: &mut Machinery, config: &str) -> Result<String, String> {
    machinery.ask(&json!({ "ask": "normalise", "config": config }))
}

fn documents(yaml: &str) -> Vec<Value> {
    MachineConfig::from_yaml(yaml).expect("machinery writes YAML").documents().to_vec()
}

#[rstest]
fn generated_configs_are_valid(
    #[values(TalosContract::V1_11, TalosContract::V1_12, TalosContract::V1_13)] contract: TalosContract,
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
            "certSANs": ["127.0.0.1"],
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
        TalosContract::V1_12 | TalosContract::V1_13 => {
            let name = json!({
                "apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "off", "hostname": "node-1",
            });
            format!("{patch}\n---\n{name}\n")
        }
    }
}

/// What `talosctl gen config` makes.
fn theirs(
    machinery: &mut Machinery,
    contract: TalosContract,
    kind: Kind,
    secrets: &SecretsBundle,
    install_disk: &str,
) -> String {
    machinery
        .ask(&json!({
            "ask": "generate",
            "config": secrets.to_yaml().expect("yaml"),
            "cluster": {
                "name": "lab",
                "endpoint": "https://10.5.0.2:6443",
                "contract": contract.as_str(),
                "kubernetesVersion": "1.34.2",
                "kind": kind.machine_type(),
                "pods": ["10.244.0.0/16"],
                "services": ["10.96.0.0/12"],
                "dnsDomain": "cluster.local",
                "installDisk": install_disk,
            },
        }))
        .expect("generate")
}

#[rstest]
fn a_generated_config_is_what_talosctl_makes_plus_the_additions(
    #[values(TalosContract::V1_11, TalosContract::V1_12, TalosContract::V1_13)] contract: TalosContract,
    #[values(Kind::ControlPlane, Kind::Worker)] kind: Kind,
) {
    let secrets = secrets();
    let mut machinery = Machinery::of(version(contract));
    let theirs = theirs(&mut machinery, contract, kind, &secrets, "/dev/vda");
    let expected = machinery.patch(&theirs, &[additions(contract, kind)]).expect("patch");
    let ours = generate(&cluster(contract), &node(kind), &secrets).to_yaml().expect("yaml");
    let ours = normalise(&mut machinery, &ours).expect("load");
    assert_eq!(documents(&ours), documents(&expected));
}

/// Each patch of the lab alone, and the speed profile as a whole, leave a config that Talos takes.
#[rstest]
fn the_labs_patches_are_valid_one_by_one_and_together(
    #[values(TalosContract::V1_11, TalosContract::V1_12, TalosContract::V1_13)] contract: TalosContract,
    #[values(Kind::ControlPlane, Kind::Worker)] kind: Kind,
) {
    let with = |off: Vec<LabPatchId>| {
        let lab_patches = LabPatches {
            profile: Profile::Speed,
            on: LabPatchId::all().collect(),
            off: off.iter().copied().collect(),
        };
        // A cluster and a node that ask for all that there is. Flannel is not there beside another network plugin.
        let own_network_plugin = off.contains(&LabPatchId::FlannelResync);
        let asks = ClusterConfig { image_cache: true, own_network_plugin, ..cluster(contract) };
        let modules = vec!["zfs".to_owned()];
        let node = NodeConfig { modules, flannel: !own_network_plugin, ..node(kind) };
        generate(&ClusterConfig { lab_patches, ..asks }, &node, shared_secrets()).to_yaml().expect("yaml")
    };
    let mut machinery = Machinery::of(version(contract));
    let bare = with(LabPatchId::all().collect());
    machinery.validate(&bare).expect("valid without any");
    machinery.validate(&with(Vec::new())).expect("valid with all");
    machinery.validate(&with(vec![LabPatchId::FlannelResync])).expect("valid with another network plugin");
    for id in LabPatchId::all() {
        let alone = with(LabPatchId::all().filter(|other| *other != id).collect());
        machinery.validate(&alone).unwrap_or_else(|refusal| panic!("{id}: {refusal}"));
        let for_workers = id.line().nodes == AppliesTo::All;
        let is_known = id != LabPatchId::MemoryWatch || contract > TalosContract::V1_11;
        assert_eq!(alone != bare, is_known && (for_workers || kind == Kind::ControlPlane), "{id}");
    }
}

#[test]
fn without_the_labs_patches_a_config_is_what_talosctl_makes() {
    let (contract, kind) = (TalosContract::V1_13, Kind::ControlPlane);
    let lab_patches = LabPatches { off: LabPatchId::all().collect(), ..LabPatches::default() };
    let cluster = ClusterConfig { lab_patches, ..cluster(contract) };
    let ours = generate(&cluster, &node(kind), shared_secrets()).to_yaml().expect("yaml");
    let mut machinery = Machinery::of(version(contract));
    let theirs = theirs(&mut machinery, contract, kind, shared_secrets(), "/dev/sda");
    let ours = normalise(&mut machinery, &ours).expect("load");
    assert_eq!(documents(&ours), documents(&theirs));
}

#[rstest]
#[case::unknown_key("machine: {kubelet: {imagee: x}}", "imagee")]
#[case::broken_range("machine: {kubelet: {nodeIP: {validSubnets: [10.5.0.0/99]}}}", "10.5.0.0/99")]
#[case::broken_endpoint("cluster: {controlPlane: {endpoint: 'https://'}}", "endpoint")]
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

/// Patches of every level in their order (all, kind, role, node), over a config of two documents:
/// what the random patches below, which start from one document, cannot reach.
#[test]
fn layered_patches_reach_each_document_as_in_the_library() {
    let all = r#"
machine: { certSANs: [all.lab], sysctls: { level: all, kept: "1" } }
cluster: { network: { podSubnets: [10.1.0.0/16] } }
---
apiVersion: v1alpha1
kind: ExtensionServiceConfig
name: tailscale
environment: [TS_USERSPACE=false]
"#;
    let kind = "machine: { certSANs: [kind.lab], sysctls: { level: kind } }";
    let role = r"
apiVersion: v1alpha1
kind: ExtensionServiceConfig
name: tailscale
environment: ['TS_ROUTES=10.96.0.0/12,10.1.0.0/16']
";
    let node = r"
machine: { sysctls: { level: node }, time: { $patch: delete } }
---
apiVersion: v1alpha1
kind: HostnameConfig
hostname: renamed
";
    let patches = [all, kind, role, node];
    let base = generate(&cluster(TalosContract::V1_13), &self::node(Kind::Worker), &secrets());
    let text = base.to_yaml().expect("yaml");
    let ours = base.patch(patches).expect("patch").to_yaml().expect("yaml");

    let mut machinery = Machinery::of(Version::V1_13);
    machinery.validate(&ours).expect("valid");
    let theirs = machinery.patch(&text, &patches.map(str::to_owned)).expect("patch");
    let ours = documents(&normalise(&mut machinery, &ours).expect("load"));
    assert_eq!(ours, documents(&theirs));

    let of_kind = |kind| ours.iter().find(|document| document["kind"] == kind).expect("document");
    assert_eq!(ours[0]["machine"]["certSANs"], json!(["127.0.0.1", "all.lab", "kind.lab"]));
    assert_eq!(ours[0]["machine"]["sysctls"], json!({ "kept": "1", "level": "node" }));
    assert_eq!(ours[0]["machine"].get("time"), None);
    assert_eq!(ours[0]["cluster"]["network"]["podSubnets"], json!(["10.1.0.0/16"]));
    assert_eq!(of_kind("HostnameConfig")["hostname"], "renamed");
    assert_eq!(
        of_kind("ExtensionServiceConfig")["environment"],
        json!(["TS_USERSPACE=false", "TS_ROUTES=10.96.0.0/12,10.1.0.0/16"])
    );
}

/// One patch of a kind that users write, with random content. `None` values in the tables of
/// `lab::talos` would show up here as a difference to the library.
fn any_patch() -> impl Strategy<Value = String> {
    let word = || "[a-z]{1,3}";
    let texts = || proptest::collection::vec("[a-z]{1,3}", 0..3);
    let index = || 0..3_u8;
    prop_oneof![
        (word(), "[0-9]{0,2}").prop_map(|(key, value)| json!({ "machine": { "sysctls": { key: value } } })),
        (word(), word()).prop_map(|(key, value)| json!({ "machine": { "nodeLabels": { key: value } } })),
        (word(), texts()).prop_map(|(key, values)| json!({ "machine": {
            "certSANs": values, "env": { key.clone(): key },
        }})),
        index().prop_map(|n| json!({ "cluster": { "network": {
            "podSubnets": [format!("10.{n}.0.0/16")], "serviceSubnets": [format!("10.9{n}.0.0/16")],
        }}})),
        (index(), texts()).prop_map(|(n, hosts)| json!({ "machine": { "network": {
            "interfaces": [{ "interface": format!("eth{n}"), "addresses": hosts, "mtu": n, "dhcp": n == 1 }],
        }}})),
        (index(), index()).prop_map(|(n, vlan)| json!({ "machine": { "network": { "interfaces": [{
            "interface": format!("eth{n}"), "vlans": [{ "vlanId": vlan + 1, "mtu": n, "addresses": ["10.0.0.1/8"] }],
        }]}}})),
        (word(), any::<bool>()).prop_map(|(bus, dhcp)| json!({ "machine": { "network": {
            "interfaces": [{ "deviceSelector": { "busPath": bus }, "dhcp": dhcp, "addresses": ["10.0.0.1/8"] }],
        }}})),
        index().prop_map(|n| json!({ "cluster": { "apiServer": { "auditPolicy": {
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{ "level": format!("L{n}") }],
        }}}})),
        (index(), word()).prop_map(|(n, text)| json!({ "cluster": { "apiServer": { "admissionControl": [
            { "name": (if n == 0 { "PodSecurity" } else { "Other" }), "configuration": { "defaults": { "audit": text } } },
        ]}}})),
        (word(), word()).prop_map(|(key, text)| json!({ "cluster": {
            "apiServer": { "extraArgs": { key: text } }, "scheduler": { "extraArgs": { "v": "4" } },
        }})),
        (any::<bool>(), word()).prop_map(|(flag, text)| json!({
            "debug": flag, "cluster": { "clusterName": text, "allowSchedulingOnControlPlanes": flag },
        })),
        (index(), texts()).prop_map(|(n, urls)| json!({ "machine": { "registries": { "mirrors": {
            format!("r{n}"): { "endpoints": urls, "overridePath": n == 0 },
        }}}})),
        word().prop_map(|path| json!({ "machine": { "files": [
            { "path": format!("/var/{path}"), "content": path, "permissions": 420, "op": "create" },
        ]}})),
        Just(json!({ "machine": { "kubelet": { "$patch": "delete" } } })),
        Just(json!({ "cluster": { "apiServer": { "auditPolicy": { "$patch": "delete" } } } })),
        Just(json!({ "machine": { "certSANs": null, "token": "" } })),
        index().prop_map(|n| json!({ "machine": { "network": { "interfaces": [
            { "interface": format!("eth{n}"), "$patch": "delete" }, { "interface": format!("eth{n}"), "dhcp": true },
        ]}}})),
        (index(), texts()).prop_map(|(n, environment)| json!({
            "apiVersion": "v1alpha1", "kind": "ExtensionServiceConfig", "name": format!("s{n}"),
            "environment": environment, "configFiles": [{ "mountPath": format!("/etc/{n}"), "content": "x" }],
        })),
        index().prop_map(|n| json!({
            "apiVersion": "v1alpha1", "kind": "ExtensionServiceConfig", "name": format!("s{n}"), "$patch": "delete",
        })),
    ]
    .prop_map(|patch| patch.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn patches_do_what_the_library_does(
        patches in proptest::collection::vec(any_patch(), 1..5),
        kind in prop_oneof![Just(Kind::ControlPlane), Just(Kind::Worker)],
    ) {
        let base = generate(&cluster(TalosContract::V1_11), &node(kind), shared_secrets());
        let text = base.to_yaml().expect("yaml");
        let mut machinery = Machinery::of(Version::V1_13);
        let theirs = machinery.patch(&text, &patches);
        let ours = base.patch(patches.iter().map(String::as_str));
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => {
                let ours = normalise(&mut machinery, &ours.to_yaml().expect("yaml")).expect("load");
                prop_assert_eq!(documents(&ours), documents(&theirs));
            }
            (Err(_), Err(_)) => {}
            (theirs, ours) => prop_assert!(false, "machinery: {theirs:?}\nthe lab: {ours:?}"),
        }
    }

    #[test]
    fn any_cluster_makes_valid_configs(
        contract in prop_oneof![Just(TalosContract::V1_11), Just(TalosContract::V1_13)],
        kind in prop_oneof![Just(Kind::ControlPlane), Just(Kind::Worker)],
        name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        cluster_name in "[a-zA-Z0-9 ._:#'\"-]{1,30}",
        dns_domain in "[a-z]{1,10}(\\.[a-z]{1,10}){0,3}",
        // Names that YAML would read as something else must stay texts.
        word in prop_oneof![Just("null"), Just("yes"), Just("1e3"), Just("0x10"), Just("~"), Just("[")],
        third in 0..=255_u8,
        schedule in any::<bool>(),
    ) {
        let cluster = ClusterConfig {
            name: cluster_name.clone(),
            endpoint_address: [10, 5, third, 2].into(),
            lan: format!("10.5.{third}.0/24").parse().expect("range"),
            gateway: [10, 5, third, 1].into(),
            pods: format!("10.{third}.0.0/16").parse().expect("range"),
            services: format!("172.16.{third}.0/24").parse().expect("range"),
            dns_domain,
            image_cache: schedule,
            own_network_plugin: schedule,
            schedule_on_control_planes: schedule,
            ..cluster(contract)
        };
        let node = NodeConfig::new(NodeName::new(name).expect("name"), kind);
        // A place that takes any text; labels and names have rules of their own.
        let variable = json!({ "machine": { "env": { "WORD": word } } }).to_string();
        let config = generate(&cluster, &node, shared_secrets()).patch([variable.as_str()]).expect("patch");
        let text = config.to_yaml().expect("yaml");
        let mut machinery = Machinery::of(version(contract));
        machinery.validate(&text).map_err(TestCaseError::fail)?;
        let read = documents(&normalise(&mut machinery, &text).map_err(TestCaseError::fail)?);
        prop_assert_eq!(&read[0]["cluster"]["clusterName"], &json!(cluster_name));
        prop_assert_eq!(&read[0]["machine"]["env"]["WORD"], &json!(word));
    }
}

/// One bundle for many cases: making keys is the slow part.
fn shared_secrets() -> &'static SecretsBundle {
    static SECRETS: std::sync::OnceLock<SecretsBundle> = std::sync::OnceLock::new();
    SECRETS.get_or_init(secrets)
}
