//! Tests with one config in both formats, and its values.

use lab_model::{Position, node::Kind};

use super::*;

const FILE: &str = "\
machine:
  type: controlplane
  network:
    hostname: cp-1
    kubespan: { enabled: yes }
    interfaces:
      - interface: eth0
        addresses: [192.168.6.30/23]
        routes:
          - { network: 0.0.0.0/0, gateway: 192.168.6.254 }
          - { network: 10.0.0.0/8, gateway: 192.168.6.253 }
        vip: { ip: 192.168.6.10 }
cluster:
  network:
    podSubnets: [10.42.0.0/16, none]
    serviceSubnets: [fd00::/112]
---
apiVersion: v1alpha1
kind: LinkConfig
name: eth1
addresses: [{ address: 192.168.8.1/24 }]
routes: [{ gateway: 192.168.8.254 }]
---
apiVersion: v1alpha1
kind: Layer2VIPConfig
name: 192.168.6.11
---
apiVersion: v1alpha1
kind: HostnameConfig
hostname: other
";

fn config() -> UserConfig {
    UserConfig::parse("cp.yaml", FILE).expect("YAML")
}

#[test]
fn a_file_says_the_same_in_either_form() {
    let config = config();
    assert_eq!(config.machine_kind(), Some(Kind::ControlPlane));
    assert_eq!(config.static_addresses().collect::<Vec<_>>(), ["192.168.6.30/23", "192.168.8.1/24"]);
    assert_eq!(config.shared_addresses().collect::<Vec<_>>(), ["192.168.6.10", "192.168.6.11"]);
    assert_eq!(config.gateways().collect::<Vec<_>>(), ["192.168.6.254", "192.168.8.254"]);
    assert!(config.kubespan().is_some(), "yes is true in the YAML that Talos reads");
}

#[test]
fn a_hostname_document_goes_before_the_main_documents_name() {
    assert_eq!(config().hostname(), Some("other"));
    let config = UserConfig::parse("cp.yaml", FILE.replace("hostname: other", "auto: stable")).expect("YAML");
    assert_eq!(config.hostname(), Some("cp-1"));
}

#[test]
fn a_network_that_is_none_is_told_with_its_text() {
    let config = config();
    let networks = cluster_networks(config.main().expect("main"));
    let networks: Vec<_> =
        networks.map(|network| (network.name, network.text, network.network.is_some())).collect();
    let expected = [("pod", "10.42.0.0/16", true), ("pod", "none", false), ("service", "fd00::/112", true)];
    assert_eq!(networks, expected);
}

#[test]
fn the_host_of_an_endpoint_has_neither_port_nor_brackets() {
    assert_eq!(endpoint_host("https://10.5.0.10:6443"), Some("10.5.0.10"));
    assert_eq!(endpoint_host("https://[fd00::1]:6443/x"), Some("fd00::1"));
    assert_eq!(endpoint_host("k8s.example.com"), Some("k8s.example.com"));
}

#[test]
fn a_position_is_that_of_the_key_or_of_the_nearest_above_it() {
    let config = config();
    assert_eq!(config.position(&["machine", "network", "hostname"]), Position { line: 4, column: 5 });
    assert_eq!(config.position(&["machine", "network", "none"]), Position { line: 3, column: 3 });
    assert_eq!(config.position_of("192.168.6.30"), Position { line: 8, column: 21 });
    assert_eq!(config.position_of("192.168.6.31"), Position::START);
}

#[test]
fn text_that_is_not_yaml_has_a_position_and_no_secret() {
    let error = UserConfig::parse("cp.yaml", "machine: {}\nmachine: {token: secret}\n").expect_err("twice");
    assert!(error.without_help().to_string().starts_with("cp.yaml:2:1: "), "{error}");
    assert_eq!(format!("{:?}", config()), "UserConfig(cp.yaml)");
}
