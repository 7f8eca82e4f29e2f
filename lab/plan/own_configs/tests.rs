//! Tests for every refusal of a user's files, and for the selection of addresses.

use std::sync::OnceLock;

use lab_model::{
    Diagnostic,
    node::{Kind, NodeName},
};
use rstest::rstest;

use super::{OwnCluster, OwnFile, RequestedCluster, RequestedNode, judge};
use crate::config::{
    ClusterConfig, LabPatchId, LabPatches, MachineConfig, NodeConfig, SecretsBundle, TalosContract, generate,
    talosconfig,
};

fn secrets() -> &'static SecretsBundle {
    static SECRETS: OnceLock<SecretsBundle> = OnceLock::new();
    SECRETS.get_or_init(|| SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets"))
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("name")
}

/// Returns the output of `talosctl gen config` with a patch.
fn file(kind: Kind, patch: &str) -> OwnFile {
    let cluster = ClusterConfig {
        name: "theirs".into(),
        endpoint_address: [192, 168, 7, 10].into(),
        contract: TalosContract::V1_11,
        kubernetes_version: "1.34.1".into(),
        lan: "192.168.7.0/24".parse().expect("range"),
        gateway: [192, 168, 7, 1].into(),
        pods: "10.42.0.0/16".parse().expect("range"),
        services: "10.43.0.0/16".parse().expect("range"),
        dns_domain: "cozy.local".into(),
        mirrors: Vec::new(),
        image_cache: false,
        own_network_plugin: false,
        schedule_on_control_planes: false,
        lab_patches: LabPatches { off: LabPatchId::all().collect(), ..LabPatches::default() },
    };
    let config = generate(&cluster, &NodeConfig::new(name("any"), kind), secrets());
    let text = config.patch([patch]).expect("patch").to_yaml().expect("yaml");
    OwnFile { origin: format!("{}.yaml", kind.machine_type()), text }
}

/// One control plane and two workers from files with patches.
struct Case {
    control_plane: Option<OwnFile>,
    worker: Option<OwnFile>,
    patches: Vec<&'static str>,
    lan: Option<&'static str>,
    lab_patches: LabPatches,
    talosconfig: Option<OwnFile>,
}

impl Case {
    fn of(control_plane: &str, worker: &str) -> Self {
        Self {
            control_plane: Some(file(Kind::ControlPlane, control_plane)),
            worker: Some(file(Kind::Worker, worker)),
            patches: Vec::new(),
            lan: None,
            lab_patches: LabPatches::default(),
            talosconfig: None,
        }
    }

    fn judged(&self) -> Result<OwnCluster, Vec<Diagnostic>> {
        let names = [name("cp-1"), name("worker-1"), name("worker-2")];
        let node = |index: usize, kind, file| RequestedNode {
            name: &names[index],
            kind,
            file,
            patches: self.patches.clone(),
        };
        let worker = self.worker.as_ref();
        judge(&RequestedCluster {
            nodes: vec![
                node(0, Kind::ControlPlane, self.control_plane.as_ref()),
                node(1, Kind::Worker, worker),
                node(2, Kind::Worker, worker),
            ],
            lan: self.lan.map(|lan| lan.parse().expect("range")),
            lab_patches: &self.lab_patches,
            talosconfig: self.talosconfig.as_ref(),
            default_lan: "10.5.0.0/24".parse().expect("range"),
        })
    }

    fn refusals(&self) -> Vec<String> {
        let refusals = self.judged().expect_err("refused");
        refusals.iter().map(|refusal| refusal.on_one_line().to_string()).collect()
    }
}

const NOTHING: &str = "{}";

#[test]
fn the_lan_is_where_their_endpoint_lies_and_the_control_plane_is_there() {
    let own = Case::of(NOTHING, NOTHING).judged().expect("accepted");
    assert_eq!(own.lan.to_string(), "192.168.7.0/24");
    assert_eq!(own.gateway.to_string(), "192.168.7.1");
    let addresses: Vec<_> = own.addresses.values().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.168.7.10", "192.168.7.11", "192.168.7.12"]);
    assert_eq!((own.name.as_deref(), own.dns_domain.as_deref()), (Some("theirs"), Some("cozy.local")));
    assert_eq!(own.pods.map(|net| net.to_string()).as_deref(), Some("10.42.0.0/16"));
    assert!(!own.schedule_on_control_planes);
}

#[test]
fn static_addresses_and_the_default_route_are_kept() {
    let static_address = "machine: {network: {interfaces: [{interface: eth0, addresses: [192.168.6.30/23], routes: \
                          [{network: 0.0.0.0/0, gateway: 192.168.6.254}], vip: {ip: 192.168.7.10}}]}}";
    let own = Case::of(static_address, NOTHING).judged().expect("accepted");
    assert_eq!(own.lan.to_string(), "192.168.6.0/23");
    assert_eq!(own.gateway.to_string(), "192.168.6.254");
    assert_eq!(own.addresses[&name("cp-1")].to_string(), "192.168.6.30");
    assert_eq!(own.addresses[&name("worker-1")].to_string(), "192.168.6.10");
}

#[test]
fn addresses_in_documents_of_their_own_count_as_well() {
    let link =
        "apiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\naddresses: [{address: 192.168.7.10/25}]\n";
    let own = Case::of(link, NOTHING).judged().expect("accepted");
    assert_eq!(own.lan.to_string(), "192.168.7.0/25");
}

#[test]
fn an_endpoint_that_is_the_first_address_moves_the_gateway() {
    let endpoint = "cluster: {controlPlane: {endpoint: 'https://192.168.7.1:6443'}}";
    let own = Case::of(endpoint, endpoint).judged().expect("accepted");
    assert_eq!(own.addresses[&name("cp-1")].to_string(), "192.168.7.1");
    assert_eq!(own.gateway.to_string(), "192.168.7.2");
}

#[test]
fn an_endpoint_by_name_is_a_name_of_the_control_plane() {
    let endpoint = "cluster: {controlPlane: {endpoint: 'https://k8s.example.com:6443'}}";
    let own = Case::of(endpoint, endpoint).judged().expect("accepted");
    assert_eq!(own.endpoint_name.as_deref(), Some("k8s.example.com"));
    assert_eq!(own.lan.to_string(), "10.5.0.0/24");
}

#[test]
fn their_patches_count_before_anything_is_judged() {
    let mut case = Case::of("cluster: {controlPlane: {endpoint: 'https://[fd00::1]:6443'}}", NOTHING);
    assert!(case.refusals()[0].contains("IPv6"), "{:?}", case.refusals());
    case.patches = vec!["cluster: {controlPlane: {endpoint: 'https://192.168.9.9:6443'}}"];
    assert_eq!(case.judged().expect("accepted").lan.to_string(), "192.168.9.0/24");
    case.patches =
        vec!["[{op: replace, path: /cluster/controlPlane/endpoint, value: 'https://192.168.8.9:6443'}]"];
    assert_eq!(case.judged().expect("accepted").lan.to_string(), "192.168.8.0/24");
}

#[rstest]
#[case::kind(
    NOTHING,
    "machine: {type: controlplane}",
    "worker.yaml:5:3: machine.type is controlplane and worker-1 is a worker"
)]
#[case::no_kind(
    "machine: {type: {$patch: delete}}",
    NOTHING,
    "machine.type is not there and cp-1 is a controlplane"
)]
#[case::name(
    NOTHING,
    "machine: {network: {hostname: edge.lan}}",
    "it names its node edge.lan, and the scenario calls it worker-1"
)]
#[case::machine_key(
    "machine: {ca: {key: {$patch: delete}}}",
    NOTHING,
    "machine.ca.key is missing; the lab makes its client certificate with it"
)]
#[case::machine_token(
    NOTHING,
    "machine: {token: {$patch: delete}}",
    "worker.yaml:4:1: machine.token is missing"
)]
#[case::cluster_key("cluster: {ca: {key: {$patch: delete}}}", NOTHING, "cluster.ca.key is missing")]
#[case::mesh("machine: {network: {kubespan: {enabled: true}}}", NOTHING, "KubeSpan is on")]
#[case::no_endpoint(
    "cluster: {controlPlane: {endpoint: {$patch: delete}}}",
    NOTHING,
    "cluster.controlPlane.endpoint is missing"
)]
#[case::plain_endpoint(
    "cluster: {controlPlane: {endpoint: 'http://192.168.7.10:6443'}}",
    NOTHING,
    "is not an https URL"
)]
#[case::balancer(
    "cluster: {controlPlane: {endpoint: 'https://192.168.7.10'}}",
    NOTHING,
    "the endpoint's port is 443, a load balancer's"
)]
#[case::itself(
    "cluster: {controlPlane: {endpoint: 'https://127.0.0.1:6443'}}",
    NOTHING,
    "is a loopback address"
)]
#[case::without_node(
    "machine: {network: {interfaces: [{interface: eth0, addresses: [192.168.7.20/24]}]}}",
    NOTHING,
    "no node of the lab owns the endpoint 192.168.7.10: its only control plane cp-1 has 192.168.7.20"
)]
#[case::two_networks(
    "machine: {network: {interfaces: [{interface: eth0, addresses: [192.168.7.10/24]}]}}",
    "machine: {network: {interfaces: [{interface: eth0, addresses: [192.168.8.11/24]}]}}",
    "worker-1's address 192.168.8.11 is not on the lab LAN 192.168.7.0/24"
)]
#[case::one_address_twice(
    NOTHING,
    "machine: {network: {interfaces: [{interface: eth0, addresses: [192.168.7.11/24]}]}}",
    "the address 192.168.7.11 is worker-1's and worker-2's"
)]
fn what_the_lab_may_not_change_is_refused(
    #[case] control_plane: &str,
    #[case] worker: &str,
    #[case] words: &str,
) {
    let refusals = Case::of(control_plane, worker).refusals();
    assert!(refusals.iter().any(|refusal| refusal.contains(words)), "{refusals:#?}");
    assert!(Case::of(NOTHING, NOTHING).judged().is_ok(), "the files without the fault");
    for secret in [&secrets().certs.os.key, &secrets().trustdinfo.token, &secrets().cluster.secret] {
        assert!(!refusals.concat().contains(secret.as_str()), "a secret is told");
    }
}

#[test]
fn an_endpoint_outside_the_lan_of_the_scenario_belongs_to_no_node() {
    let case = Case { lan: Some("10.9.0.0/24"), ..Case::of(NOTHING, NOTHING) };
    let refusals = case.refusals();
    assert!(refusals[0].contains("owns the endpoint 192.168.7.10: its LAN is 10.9.0.0/24"), "{refusals:?}");
}

#[test]
fn a_workers_file_beside_a_generated_control_plane_is_another_cluster() {
    let refusals = Case { control_plane: None, ..Case::of(NOTHING, NOTHING) }.refusals();
    assert!(refusals[0].contains("they are two clusters"), "{refusals:?}");
}

#[test]
fn a_generated_worker_beside_their_control_plane_gets_an_address() {
    let own = Case { worker: None, ..Case::of(NOTHING, NOTHING) }.judged().expect("accepted");
    assert_eq!(own.addresses.len(), 3);
}

#[test]
fn a_name_is_needed_when_the_lab_may_not_give_one() {
    let off = LabPatches { off: [LabPatchId::Hostname].into(), ..LabPatches::default() };
    let refusals = Case { lab_patches: off, ..Case::of(NOTHING, NOTHING) }.refusals();
    assert!(refusals[0].contains("no config names the node cp-1"), "{refusals:?}");
}

#[rstest]
#[case::patch("machine: {sysctls: {a: '1'}}\n", "no document with machine: and cluster:")]
#[case::secrets("cluster: {id: x}\nsecrets: {}\n", "no document with machine: and cluster:")]
#[case::not_yaml("machine: {}\ncluster: {\n", "controlplane.yaml:")]
#[case::empty("", "no document with machine: and cluster:")]
fn what_is_no_config_is_refused(#[case] text: &str, #[case] words: &str) {
    let file = OwnFile { origin: "controlplane.yaml".into(), text: text.into() };
    let refusals = Case { control_plane: Some(file), ..Case::of(NOTHING, NOTHING) }.refusals();
    assert!(refusals.len() == 1 && refusals[0].contains(words), "{refusals:?}");
}

#[test]
fn a_client_file_stands_in_for_the_authoritys_key_and_must_be_of_the_cluster() {
    let client = |secrets: &SecretsBundle| {
        let config = talosconfig("theirs", &[], secrets, jiff::Timestamp::now()).expect("talosconfig");
        OwnFile { origin: "talosconfig".into(), text: config.to_yaml().expect("yaml") }
    };
    let without_key = Case::of("machine: {ca: {key: {$patch: delete}}}", NOTHING);
    let case = Case { talosconfig: Some(client(secrets())), ..without_key };
    assert_eq!(case.judged().expect("accepted").talosconfig, case.talosconfig);
    let other = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
    let refusals = Case { talosconfig: Some(client(&other)), ..case }.refusals();
    assert!(
        refusals[0].starts_with("talosconfig:") && refusals[0].contains("another cluster"),
        "{refusals:?}"
    );
    let text = "context: a\ncontexts: {}\n";
    let empty = OwnFile { origin: "talosconfig".into(), text: text.into() };
    let refusals = Case { talosconfig: Some(empty), ..Case::of(NOTHING, NOTHING) }.refusals();
    assert!(refusals[0].contains("it has no context a"), "{refusals:?}");
}

#[test]
fn a_file_is_its_name_wherever_it_is_printed() {
    let file = file(Kind::ControlPlane, NOTHING);
    let printed = format!("{file:?}{}", serde_json::to_string(&file).expect("json"));
    assert_eq!(printed, r#"OwnFile(controlplane.yaml){"origin":"controlplane.yaml"}"#);
}

#[test]
fn the_secrets_of_a_file_are_those_that_it_was_made_from() {
    let config = MachineConfig::as_written(&file(Kind::ControlPlane, NOTHING).text).expect("config");
    assert!(SecretsBundle::of_control_plane(&config) == *secrets());
}
