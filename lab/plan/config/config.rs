//! Machine configs in the format of `talosctl gen config`, for the version contract of the image.
//!
//! Source: `machinery/config/generate` v1.13.9 with the contracts of v1.11, v1.12 and v1.13. The Go test in
//! `tests/machinery` compares key by key.

use lab_model::node::Kind;
use serde_json::{Value, json};

use super::{
    cluster_config::{ClusterConfig, NodeConfig, TalosContract},
    documents::MachineConfig,
    patch_documents::audit_policy,
    pki::CertificateAndKey,
    release::{component_image, kubelet_image},
    secrets::SecretsBundle,
};

/// Generates a node's config like `talosctl gen config`, and merges the lab patches ([`LabPatches`]) into
/// it.
pub fn generate(cluster: &ClusterConfig, node: &NodeConfig, secrets: &SecretsBundle) -> MachineConfig {
    let mut documents = vec![base(cluster, node, secrets)];
    if cluster.contract > TalosContract::V1_11 {
        documents.push(json!({ "apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "stable" }));
    }
    let mut config = MachineConfig::new(documents);
    for patch in cluster.lab_patches.of_node(cluster, node) {
        config.merge(&patch);
    }
    config
}

fn certificate_only(pair: &CertificateAndKey) -> Value {
    json!({ "crt": pair.crt, "key": "" })
}

fn pair(pair: &CertificateAndKey) -> Value {
    json!({ "crt": pair.crt, "key": pair.key })
}

fn base(cluster: &ClusterConfig, node: &NodeConfig, secrets: &SecretsBundle) -> Value {
    let control_plane = node.kind == Kind::ControlPlane;
    let authority =
        |full: &CertificateAndKey| if control_plane { pair(full) } else { certificate_only(full) };
    let image = |component: &str| component_image(component, &cluster.kubernetes_version);
    let mut document = json!({
        "version": "v1alpha1",
        "debug": false,
        "persist": true,
        "machine": {
            "type": node.kind.machine_type(),
            "token": secrets.trustdinfo.token,
            "ca": authority(&secrets.certs.os),
            "certSANs": [],
            "kubelet": {
                "image": kubelet_image(&cluster.kubernetes_version),
                "defaultRuntimeSeccompProfileEnabled": true,
                "disableManifestsDirectory": true,
            },
            // The default of talosctl.
            "install": { "disk": "/dev/sda", "wipe": false },
            "features": {
                "diskQuotaSupport": true,
                "kubePrism": { "enabled": true, "port": 7445 },
                "hostDNS": { "enabled": true, "forwardKubeDNSToHost": true },
            },
        },
        "cluster": {
            "id": secrets.cluster.id,
            "secret": secrets.cluster.secret,
            "controlPlane": { "endpoint": format!("https://{}:6443", cluster.endpoint_address) },
            "clusterName": cluster.name,
            "network": {
                "dnsDomain": cluster.dns_domain,
                "podSubnets": [cluster.pods],
                "serviceSubnets": [cluster.services],
            },
            "token": secrets.secrets.bootstraptoken,
            "ca": authority(&secrets.certs.k8s),
            "discovery": {
                "enabled": true,
                "registries": { "kubernetes": { "disabled": true }, "service": {} },
            },
        },
    });
    if cluster.contract < TalosContract::V1_13 {
        document["machine"]["network"] = json!({});
    }
    if cluster.contract == TalosContract::V1_11 {
        for flag in ["rbac", "stableHostname", "apidCheckExtKeyUsage"] {
            document["machine"]["features"][flag] = json!(true);
        }
    } else {
        document["machine"]["install"]["grubUseUKICmdline"] = json!(true);
    }
    if control_plane {
        document["machine"]["nodeLabels"] =
            json!({ "node.kubernetes.io/exclude-from-external-load-balancers": "" });
        let section = &mut document["cluster"];
        section["secretboxEncryptionSecret"] = json!(secrets.secrets.secretboxencryptionsecret);
        section["aggregatorCA"] = pair(&secrets.certs.k8saggregator);
        section["serviceAccount"] = json!({ "key": secrets.certs.k8sserviceaccount.key });
        section["apiServer"] = json!({
            "image": image("kube-apiserver"),
            "admissionControl": [{ "name": "PodSecurity", "configuration": pod_security() }],
            "auditPolicy": audit_policy("Metadata"),
        });
        if cluster.contract == TalosContract::V1_11 {
            section["apiServer"]["certSANs"] = json!([cluster.endpoint_address]);
            section["apiServer"]["disablePodSecurityPolicy"] = json!(true);
        }
        section["controllerManager"] = json!({ "image": image("kube-controller-manager") });
        section["proxy"] = json!({ "image": image("kube-proxy") });
        section["scheduler"] = json!({ "image": image("kube-scheduler") });
        section["etcd"] = json!({ "ca": pair(&secrets.certs.etcd) });
    }
    document
}

fn pod_security() -> Value {
    json!({
        "apiVersion": "pod-security.admission.config.k8s.io/v1alpha1",
        "kind": "PodSecurityConfiguration",
        "defaults": {
            "audit": "restricted",
            "audit-version": "latest",
            "enforce": "baseline",
            "enforce-version": "latest",
            "warn": "restricted",
            "warn-version": "latest",
        },
        "exemptions": { "namespaces": ["kube-system"], "runtimeClasses": [], "usernames": [] },
    })
}

#[cfg(test)]
mod tests {
    use lab_model::node::NodeName;

    use super::*;
    use crate::config::{LabPatches, RegistryMirror};

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
            image_cache: false,
            own_network_plugin: false,
            schedule_on_control_planes: false,
            lab_patches: LabPatches::default(),
        }
    }

    fn config(contract: TalosContract, kind: Kind) -> MachineConfig {
        let secrets = SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets");
        let node = NodeConfig::new(NodeName::new("node-1").expect("name"), kind);
        generate(&cluster(contract), &node, &secrets)
    }

    #[test]
    fn a_worker_gets_no_private_authority() {
        let text = config(TalosContract::V1_13, Kind::Worker).to_yaml().expect("yaml");
        for absent in ["aggregatorCA", "serviceAccount", "secretbox", "etcd:"] {
            assert!(!text.contains(absent), "{absent}");
        }
        let documents = MachineConfig::from_yaml(&text).expect("read");
        assert_eq!(documents.documents()[0]["machine"]["ca"]["key"], "");
    }

    #[test]
    fn a_version_names_its_contract() {
        for (version, contract) in [
            ("v1.11.5", Some(TalosContract::V1_11)),
            ("1.12.0-beta.1", Some(TalosContract::V1_12)),
            ("v1.13", Some(TalosContract::V1_13)),
            ("v1.10.7", None),
            ("latest", None),
        ] {
            assert_eq!(TalosContract::of_version(version), contract, "{version}");
        }
    }

    #[test]
    fn the_host_name_stands_where_the_version_wants_it() {
        let old = config(TalosContract::V1_11, Kind::Worker);
        assert_eq!(old.documents().len(), 1);
        assert_eq!(old.documents()[0]["machine"]["network"]["hostname"], "node-1");
        let new = config(TalosContract::V1_13, Kind::Worker);
        assert_eq!(new.documents()[1]["hostname"], "node-1");
        assert_eq!(new.documents()[1]["auto"], "off");
    }
}
