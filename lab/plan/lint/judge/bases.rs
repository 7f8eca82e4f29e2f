//! The configs over which Talos lays patches and parts of configs.

use std::sync::LazyLock;

use lab_model::node::{Kind, NodeName};
use serde_json::json;

use super::{
    super::{config_set::ConfigSet, library::Base},
    shape::Shape,
};
use crate::{
    cluster::NetworkSpec,
    config::{ClusterConfig, LabPatchId, LabPatches, NodeConfig, SecretsBundle, TalosContract, generate},
};

const KINDS: [Kind; 2] = [Kind::ControlPlane, Kind::Worker];

/// The bases of a request.
pub(super) struct Bases {
    bases: Vec<Base>,
    /// The configs that the user named as bases, or that are among the files.
    given: Vec<usize>,
    /// Whether patches are applied to the given bases alone.
    only_given: bool,
}

impl Bases {
    pub(super) fn new(set: &ConfigSet) -> Self {
        let mut bases: Vec<_> =
            set.bases.iter().map(|text| Base { text: text.clone(), generated: false }).collect();
        let only_given = !bases.is_empty();
        if !only_given {
            for kind in KINDS {
                let mut of_kind = set.files.iter().filter(|file| file.machine_kind() == Some(kind));
                let first = of_kind.find(|file| Shape::of(file) == Shape::Config);
                bases.extend(first.map(|file| Base { text: file.text().to_owned(), generated: false }));
            }
        }
        Self { given: (0..bases.len()).collect(), bases, only_given }
    }

    /// Returns the indices of the bases of a file.
    pub(super) fn of(&mut self, shape: Shape) -> Vec<usize> {
        match shape {
            Shape::Config => Vec::new(),
            Shape::Part(kind) => GENERATED.iter().map(|bases| self.add(&bases.least[place(kind)])).collect(),
            Shape::Patch if self.only_given => self.given.clone(),
            Shape::Patch => {
                let full = GENERATED.iter().flat_map(|bases| &bases.full).map(|text| self.add(text));
                let full: Vec<_> = full.collect();
                self.given.iter().copied().chain(full).collect()
            }
        }
    }

    pub(super) fn list(self) -> Vec<Base> {
        self.bases
    }

    /// Returns the index of a generated base.
    fn add(&mut self, text: &str) -> usize {
        if let Some(index) = self.bases.iter().position(|base| base.generated && base.text == text) {
            return index;
        }
        self.bases.push(Base { text: text.to_owned(), generated: true });
        self.bases.len() - 1
    }
}

fn place(kind: Kind) -> usize {
    usize::from(kind == Kind::Worker)
}

/// Configs for a control plane and a worker.
struct Generated {
    /// Configs of talosctl. Their contract is the oldest one, because newer releases read it, it allows every
    /// setting of newer documents, and a list of JSON patch operations needs a single document.
    full: [String; 2],
    /// The least configs that Talos accepts.
    least: [String; 2],
}

/// A document for the host name and this setting exclude each other.
const WITHOUT_HOST_NAME: &str = "machine: { features: { stableHostname: { $patch: delete } } }";

/// Made once, because keys take time to make. `None` if the host has no random numbers.
static GENERATED: LazyLock<Option<Generated>> = LazyLock::new(|| {
    let secrets = SecretsBundle::generate(jiff::Timestamp::now()).ok()?;
    let name = NodeName::new("node-1").ok()?;
    let full = |kind| {
        let config = generate(&cluster(), &NodeConfig::new(name.clone(), kind), &secrets);
        config.patch([WITHOUT_HOST_NAME]).ok()?.to_yaml().ok()
    };
    Some(Generated {
        full: [full(Kind::ControlPlane)?, full(Kind::Worker)?],
        least: KINDS.map(|kind| least(kind, &secrets)),
    })
});

fn least(kind: Kind, secrets: &SecretsBundle) -> String {
    let (os, etcd) = (&secrets.certs.os, &secrets.certs.etcd);
    let mut config = json!({
        "version": "v1alpha1",
        "machine": {
            "type": kind.machine_type(),
            "token": "abcdef.0123456789abcdef",
            "ca": { "crt": os.crt },
            "install": { "disk": "/dev/vda" },
        },
        "cluster": { "controlPlane": { "endpoint": "https://10.5.0.2:6443" } },
    });
    if kind == Kind::ControlPlane {
        config["machine"]["ca"]["key"] = json!(os.key);
        config["cluster"]["etcd"] = json!({ "ca": { "crt": etcd.crt, "key": etcd.key } });
    }
    config.to_string()
}

fn cluster() -> ClusterConfig {
    let network = NetworkSpec::default();
    ClusterConfig {
        name: "cluster".into(),
        endpoint_address: network.gateway(),
        contract: TalosContract::V1_11,
        kubernetes_version: "1.34.1".into(),
        lan: network.lan,
        gateway: network.gateway(),
        pods: network.pods,
        services: network.services,
        dns_domain: network.dns_domain,
        mirrors: Vec::new(),
        image_cache: false,
        own_network_plugin: false,
        schedule_on_control_planes: false,
        lab_patches: LabPatches { off: LabPatchId::all().collect(), ..LabPatches::default() },
    }
}
